import { expect } from "vitest";
import { backUp, verify } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";

test("a backup of the example passes every check", async ({ example: { sql } }) => {
  await backUp(sql, "v10.0", examplePlan);
  const checks = await verify(sql, "v10");
  expect([...checks].filter(([, check]) => check.status !== "OK")).toEqual([]);
  expect(checks.size).toBeGreaterThan(10);
});
