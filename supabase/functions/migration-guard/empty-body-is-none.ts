import { createMiddleware } from "hono/factory";

/** Takes an empty body for none, whatever it is declared as: for a path that can do without one. */
export const emptyBodyIsNone = createMiddleware(async (c, next) => {
  const body = await c.req.arrayBuffer();
  if (body.byteLength === 0) {
    const headers = new Headers(c.req.raw.headers);
    headers.delete("content-type");
    c.req.raw = new Request(c.req.raw.url, { method: c.req.method, headers, signal: c.req.raw.signal });
  }
  await next();
});
