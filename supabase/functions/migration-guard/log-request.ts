import { createMiddleware } from "hono/factory";
import type { AppEnv } from "./app.ts";
import { jobIdOf, pathPattern, problemBody, versionOf } from "./request-facts.ts";

/**
 * Writes one line of JSON for each request, when its answer begins. What a caller may have written anything into (the path,
 * the query, the body, a header) is not in it, but for a version and a job's id that are of their form.
 */
export const logRequest = createMiddleware<AppEnv>(async (c, next) => {
  const start = performance.now();
  c.set("start", start);
  await next();
  const { status } = c.res;
  console.log(JSON.stringify({
    level: status >= 500 ? "error" : "info",
    event: "request",
    request_id: c.var.requestId,
    method: c.req.method,
    path: pathPattern(c),
    version: versionOf(c),
    job_id: jobIdOf(c),
    status,
    code: (await problemBody(c.res))?.code ?? null,
    duration_ms: Math.round(performance.now() - start),
    actor: c.var.actor ?? null,
  }));
});
