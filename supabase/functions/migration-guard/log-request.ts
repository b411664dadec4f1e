import type { Context } from "hono";
import { createMiddleware } from "hono/factory";
import { routePath } from "hono/route";
import type { AppEnv } from "./app.ts";
import { Version } from "./schemas.ts";

/**
 * Writes one line of JSON for each request, when its answer begins. What a caller may have written anything into (the path,
 * the query, the body, a header) is not in it, but for a version and a job's id that are of their form.
 */
export const logRequest = createMiddleware<AppEnv>(async (c, next) => {
  const start = performance.now();
  await next();
  const { status } = c.res;
  console.log(JSON.stringify({
    level: status >= 500 ? "error" : "info",
    event: "request",
    request_id: c.var.requestId,
    method: c.req.method,
    path: pattern(c),
    version: versionOf(c),
    job_id: /^\/v1\/jobs\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=\/|$)/.exec(c.req.path)?.[1] ?? null,
    status,
    code: await problemCode(c.res),
    duration_ms: Math.round(performance.now() - start),
    actor: c.var.actor ?? null,
  }));
});

/** The path as `/openapi.json` has it; null for one that does not exist, which may be anything. */
function pattern(c: Context<AppEnv>): string | null {
  const path = routePath(c, -1);
  return path.includes("*") ? null : path.replace(/:(\w+)/g, "{$1}");
}

/** The version that a request is about, in the spelling of the jobs' lines. */
function versionOf(c: Context<AppEnv>): string | null {
  const body = c.req.valid("json" as never) as { version?: unknown } | undefined;
  const version = Version.safeParse(/^\/v1\/\w+\/([^/]+)/.exec(c.req.path)?.[1] ?? body?.version).data;
  return version?.replace(/^v\d+$/, "$&.0") ?? null;
}

async function problemCode(response: Response): Promise<string | null> {
  if (response.headers.get("content-type") !== "application/problem+json") return null;
  return (await response.clone().json()).code;
}
