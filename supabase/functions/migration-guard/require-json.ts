import { createMiddleware } from "hono/factory";
import { Problem } from "./problems.ts";

/**
 * Refuses a body that is not declared as JSON, which curl's `-d` does not do by itself and which would otherwise be
 * taken for no body at all.
 *
 * @throws {Problem} `unsupported_media_type`.
 */
export const requireJson = createMiddleware(async (c, next) => {
  const type = c.req.header("content-type");
  const hasBody = Number(c.req.header("content-length") ?? 0) > 0 || c.req.header("transfer-encoding") !== undefined;
  if (hasBody && !/^application\/([\w.+-]+\+)?json\s*(;|$)/i.test(type ?? "")) {
    throw new Problem("unsupported_media_type", {
      detail: "Send the body with the header content-type: application/json.",
    });
  }
  await next();
});
