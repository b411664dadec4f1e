import { createMiddleware } from "hono/factory";

/** Makes an Error of whatever else is thrown: Hono's `onError` is not asked about it, and the answer would be a bare 500. */
export const throwErrors = createMiddleware(async (_c, next) => {
  try {
    await next();
  } catch (thrown) {
    throw thrown instanceof Error ? thrown : new Error(`thrown, and no Error: ${describe(thrown)}`);
  }
});

const describe = (thrown: unknown) =>
  typeof thrown === "object" && thrown !== null && "message" in thrown ? String(thrown.message) : String(thrown);
