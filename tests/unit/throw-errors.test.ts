import { Hono } from "hono";
import { expect, test } from "vitest";
import { throwErrors } from "../../supabase/functions/migration-guard/throw-errors.ts";

test.for<[unknown, string]>([
  [new Error("it broke"), "it broke"],
  [{ name: "ExitStatus", message: "exit(1)", status: 1 }, "thrown, and no Error: exit(1)"],
  ["a text", "thrown, and no Error: a text"],
  [undefined, "thrown, and no Error: undefined"],
])("whatever a handler throws reaches onError: %j", async ([thrown, message]) => {
  const app = new Hono().use(throwErrors);
  app.get("/", () => {
    throw thrown;
  });
  app.onError((error, c) => c.text(error.message, 500));
  const answer = await app.request("/");
  expect([answer.status, await answer.text()]).toEqual([500, message]);
});
