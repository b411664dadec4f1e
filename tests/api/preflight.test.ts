import { expect } from "vitest";
import { test } from "../support/api.ts";
import { examplePlan } from "../support/example.ts";

type Check = { check_name: string; status: string; details: string; items: unknown[] };

test("a preflight tells whether a backup can be taken, what it takes, and what to look at", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await database.sql`create view public.roster as select id from public.profiles`;
  await call("PUT", "/v1/plans/v10.0", { json: examplePlan });
  const before = await call("POST", "/v1/plans/v10/preflight");
  expect(before).toMatchObject({ status: 200, json: { version: "v10", can_back_up: true } });
  expect(before.json.estimated_bytes).toBeGreaterThan(100_000);
  const check = (name: string, { json }: { json: { checks: Check[] } }) =>
    json.checks.find(({ check_name }) => check_name === name);
  expect(check("names_exist", before)).toMatchObject({ status: "ok", items: [] });
  expect(check("dependents", before)).toMatchObject({
    status: "warning",
    items: expect.arrayContaining([{ kind: "view", identity: "public.roster" }]),
  });
  expect(check("function_bodies", before)!.status).toBe("warning");
  expect(await database.sql`select from migration_guard.jobs`).toHaveLength(0);

  expect((await call("POST", "/v1/backups", { json: { version: "v10" }, wait: 60 })).json)
    .toMatchObject({ status: "succeeded" });
  const after = await call("POST", "/v1/plans/v10/preflight");
  expect(after).toMatchObject({ status: 200, json: { can_back_up: false } });
  expect(check("no_backup", after)).toMatchObject({
    status: "blocked",
    items: [{ schema: "migration_backup_v10" }],
  });
});

test("a preflight of no plan is a 404", async ({ api }) => {
  expect((await api.call("POST", "/v1/plans/v99/preflight")).json).toMatchObject({
    status: 404,
    code: "plan_not_found",
  });
});

test("a preflight answers while a table is locked, and says by whom", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await call("PUT", "/v1/plans/v10.0", { json: examplePlan });
  const session = database.connect();
  const [{ pid }] = await session<[{ pid: number }]>`select pg_backend_pid() as pid`;
  await session.unsafe(`begin; lock table public.profiles in access exclusive mode`);
  const { status, json } = await call("POST", "/v1/plans/v10/preflight");
  await session`rollback`;
  expect({ status, can_back_up: json.can_back_up }).toEqual({ status: 200, can_back_up: false });
  expect(json.checks.find(({ check_name }: Check) => check_name === "locks")).toMatchObject({
    status: "blocked",
    items: [{ table: "public.profiles", granted: true, pid }],
  });
});
