import type { Context } from "hono";
import type { AppEnv } from "./app.ts";

/** Who asks for a job, in which request, and by which key its repetition would be known: parameters of every call that makes one. */
export function requester(c: Context<AppEnv>) {
  return { actor: c.var.actor, request_id: c.var.requestId, idempotency_key: c.req.header("idempotency-key") };
}
