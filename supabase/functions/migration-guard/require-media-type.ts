import { createMiddleware } from "hono/factory";
import { Problem } from "./problems.ts";

type Takes = { pattern: RegExp; header: string };

const json: Takes = { pattern: /^application\/([\w.+-]+\+)?json\s*(;|$)/i, header: "application/json" };
const sql: Takes = {
  pattern: /^(application\/sql|text\/plain)\s*(;\s*charset="?(utf-8|us-ascii)"?\s*)?$/i,
  header: "application/sql (or text/plain, in UTF-8)",
};

/** Paths whose body is the text of a migration file; all others take JSON. */
const takesMigration = /^\/v1\/plans\/[^/]+\/(derive|preflight)$/;

/**
 * Refuses a body that is not declared as what its path takes: curl's `-d` does not do it by itself, and the body would
 * otherwise be taken for no body at all.
 *
 * @throws {Problem} `unsupported_media_type`.
 */
export const requireMediaType = createMiddleware(async (c, next) => {
  const { pattern, header } = takesMigration.test(c.req.path) ? sql : json;
  const hasBody = Number(c.req.header("content-length") ?? 0) > 0 || c.req.header("transfer-encoding") !== undefined;
  if (hasBody && !pattern.test(c.req.header("content-type") ?? "")) {
    throw new Problem("unsupported_media_type", { detail: `Send the body with the header content-type: ${header}.` });
  }
  await next();
});
