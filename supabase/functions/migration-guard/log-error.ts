import { tryGetContext } from "hono/context-storage";
import type { AppEnv } from "./app.ts";

/** Writes an error into the function's log as one line of JSON, with the id of the request that it befell. */
export function logError(event: string, fields: Record<string, unknown>): void {
  const request_id = tryGetContext<AppEnv>()?.var.requestId;
  console.error(JSON.stringify({ level: "error", event, request_id, ...fields }));
}
