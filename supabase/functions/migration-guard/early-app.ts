import { Hono } from "hono";
import type { AppEnv } from "./app.ts";
import { essentials } from "./essentials.ts";
import { pathOf } from "./path-of.ts";
import { healthy } from "./healthy.ts";

/**
 * Answers what needs nothing but the function itself, while the rest of it is loaded; undefined for all other requests. A page of
 * another origin has to wait: whether it may read the answer is in the environment.
 */
export function createEarlyApp() {
  const app = new Hono<AppEnv>({ getPath: pathOf });
  app.use(...essentials);
  app.get("/health", (c) => c.json(healthy));
  return (request: Request): Response | Promise<Response> | undefined =>
    ["GET", "HEAD"].includes(request.method) && pathOf(request) === "/health" && !request.headers.has("origin")
      ? app.fetch(request)
      : undefined;
}
