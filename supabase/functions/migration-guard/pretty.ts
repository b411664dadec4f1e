import { createMiddleware } from "hono/factory";
import { prettyJSON } from "hono/pretty-json";

const indent = prettyJSON();

/** Indents the answer to a request with `?pretty`, and ends its last line, so that a shell's prompt comes below it. */
export const pretty = createMiddleware(async (c, next) => {
  await indent(c, next);
  const isJson = /^application\/(problem\+)?json\b/.test(c.res.headers.get("content-type") ?? "");
  if (c.req.query("pretty") !== undefined && isJson) c.res = new Response(`${await c.res.text()}\n`, c.res);
});
