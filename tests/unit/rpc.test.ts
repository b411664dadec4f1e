import { expect, test } from "vitest";
import { toProblem } from "../../supabase/functions/migration-guard/rpc.ts";

test.for(["55P03", "40001", "40P01", "57014"])("what the database gave up with %s can be asked for again", (code) => {
  const problem = toProblem({ code, message: "secret", details: null }, "call-1", 500);
  expect([problem.status, problem.code]).toEqual([503, "database_timeout"]);
  expect(problem.message).toMatch(/again/);
  expect(problem.message).not.toContain("secret");
});

test("what nobody expects of the database cannot", () => {
  expect(toProblem({ code: "22012", message: "secret", details: null }, "call-1", 500).status).toBe(500);
});
