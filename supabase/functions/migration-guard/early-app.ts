import { Hono } from "hono";
import type { AppEnv } from "./app.ts";
import { corsHeaders } from "./cors-headers.ts";
import type { Environment } from "./environment.ts";
import { essentials } from "./essentials.ts";
import { healthy } from "./healthy.ts";
import { pathOf } from "./path-of.ts";

/** Answers what needs nothing but the function itself; undefined for all other requests, which need the rest of it. */
export function createEarlyApp({ allowedOrigins }: Environment) {
  const app = new Hono<AppEnv>({ getPath: pathOf });
  app.use(...essentials);
  if (allowedOrigins.length > 0) app.use(corsHeaders(allowedOrigins));
  app.get("/health", (c) => c.json(healthy));
  return (request: Request): Response | Promise<Response> | undefined =>
    ["GET", "HEAD"].includes(request.method) && pathOf(request) === "/health" ? app.fetch(request) : undefined;
}
