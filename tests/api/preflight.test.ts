import { expect } from "vitest";
import { test } from "../support/api.ts";
import { exampleFile, examplePlan } from "../support/example.ts";

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

test("with the migration file a preflight names the functions that the migration would break, and no others", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await call("PUT", "/v1/plans/v10.0", { json: examplePlan });
  const headers = { "content-type": "application/sql" };
  const bodies = async (body: string) => {
    const { status, json } = await call("POST", "/v1/plans/v10/preflight", { body, headers });
    expect(status).toBe(200);
    return json.checks.find(({ check_name }: Check) => check_name === "function_bodies") as Check;
  };
  const migration = exampleFile("migrations", "v10.0_coordinator_to_curator.sql");
  // It replaces each function that says coordinator.
  expect(await bodies(migration)).toMatchObject({ status: "ok", items: [] });

  await database.sql`create function public.note_count() returns bigint language plpgsql
    as $$ begin return (select count(*) from public.coordinator_notes); end $$`;
  const line = migration.split("\n").findIndex((text) => text.includes("coordinator_notes rename to")) + 1;
  expect(await bodies(migration)).toMatchObject({
    status: "warning",
    items: [{
      function: "public.note_count()",
      names: [{ kind: "table", name: "coordinator_notes", new_name: "curator_notes", line }],
    }],
  });
});

test("a preflight refuses a file that is no SQL, and a body that is declared as something else", async ({ api }) => {
  const { call } = api;
  await call("PUT", "/v1/plans/v10.0", { json: examplePlan });
  const sent = (body: string, type: string) =>
    call("POST", "/v1/plans/v10/preflight", { body, headers: { "content-type": type } });
  expect((await sent("select 1;\nselekt 2", "application/sql")).json).toMatchObject({
    status: 400,
    code: "invalid_migration",
    errors: [{ line: 2 }],
  });
  expect((await sent("{}", "application/json")).json).toMatchObject({ status: 415, code: "unsupported_media_type" });
});
