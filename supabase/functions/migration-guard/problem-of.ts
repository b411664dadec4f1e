import { HTTPException } from "hono/http-exception";
import { bodyLike } from "./body-like.ts";
import { Problem } from "./problems.ts";

/**
 * What an error that ends a request means to its caller. One that nobody expected goes to the log, and nowhere else.
 *
 * @param exampleBody What a body of the request reads like.
 */
export function problemOf(error: unknown, request: string, request_id: string, exampleBody?: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof HTTPException && error.status === 400) {
    const detail = "The body could not be read as JSON.";
    return new Problem("invalid_json", { detail: exampleBody ? `${detail} ${bodyLike(exampleBody)}` : detail });
  }
  if (error instanceof HTTPException && error.status === 415) {
    return new Problem("unsupported_media_type", { detail: "Send the header content-type: application/json." });
  }
  const stack = error instanceof Error ? error.stack : String(error);
  console.error(JSON.stringify({ level: "error", event: "request_failed", request_id, request, stack }));
  return new Problem("internal_error", {
    detail: "Nothing more can be said here; the function's log has the request id.",
  });
}
