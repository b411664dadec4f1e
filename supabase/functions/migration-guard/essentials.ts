import { createMiddleware } from "hono/factory";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import { timing } from "hono/timing";
import type { AppEnv } from "./app.ts";
import { logRequest } from "./log-request.ts";
import { pretty } from "./pretty.ts";

const noStore = createMiddleware<AppEnv>(async (c, next) => {
  await next();
  c.header("cache-control", "no-store");
});

/** What every request goes through, whatever it is for. */
export const essentials = [logRequest, requestId(), secureHeaders(), timing(), pretty, noStore];
