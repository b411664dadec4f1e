import { expect } from "vitest";
import { type Api, test } from "../support/api.ts";
import { exampleFile, examplePlan } from "../support/example.ts";

type Check = { check_name: string; status: string; details: string; items: unknown[] };

test("a preflight tells whether a backup can be taken, what it takes, and what to look at", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await database.sql`create view public.roster as select id from public.profiles`;
  await call("PUT", "/v1/plans/v10.0", { json: examplePlan });
  const before = await call("POST", "/v1/plans/v10/preflight");
  expect(before).toMatchObject({ status: 200, json: { version: "v10.0", can_back_up: true } });
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

/** What the preflight of a migration of the schema `app` finds, by check. */
async function lookAt(
  { call, database }: Api,
  migration: string,
): Promise<Record<string, Check>> {
  await database.sql.unsafe(`
    create schema app;
    create table app.base (zz int);
    create table app.real (v int);
    create type app.mood as enum ('glum', 'fine');
    create function app.ov(text) returns bigint language sql as 'select count(v) from app.real';
    create function app.moods() returns app.mood[] language sql as $$ select '{glum,fine}'::app.mood[] $$;
  `);
  await call("PUT", "/v1/plans/v1", { json: { schema: "app", tables: "*" } });
  const headers = { "content-type": "application/sql" };
  const { status, json } = await call("POST", "/v1/plans/v1/preflight", { body: migration, headers });
  expect(status).toBe(200);
  return Object.fromEntries(json.checks.map((check: Check) => [check.check_name, check]));
}

test("a block of code beside a rename is told, and leaves no function_bodies ok", async ({ freshApi }) => {
  const migration = `alter table app.base rename column zz to y;
do $$ begin alter table app.real rename column v to vv; end $$;`;
  const { unknown_effects, function_bodies } = await lookAt(freshApi, migration);
  expect(unknown_effects).toMatchObject({
    status: "warning",
    items: [{ line: 2, code: "effect_unknown", statement: "DO", detail: expect.stringContaining("block of code") }],
  });
  expect(function_bodies).toMatchObject({ status: "warning", items: [] });
  expect(function_bodies!.details).toContain("see `unknown_effects`");
});

test.for([
  "create or replace function app.ov(int) returns bigint language sql as 'select 1::bigint'",
  "create function public.ov(int) returns bigint language sql as 'select 1::bigint'",
])("a function that the migration leaves alone is found beside: %s", async (made, { freshApi }) => {
  const { function_bodies, unknown_effects } = await lookAt(
    freshApi,
    `${made}; alter table app.real rename column v to vv;`,
  );
  expect(function_bodies).toMatchObject({ status: "warning", items: [{ function: "app.ov(text)", in_plan: false }] });
  expect(unknown_effects).toMatchObject({ status: "ok" });
});

test("a body that the migration makes itself is looked at, and names without a schema are the plan's", async ({ freshApi }) => {
  const migration = `alter table real rename column v to vv;
create or replace function ov(text) returns bigint language sql as $$ select count(v) from app.real $$;`;
  expect((await lookAt(freshApi, migration)).function_bodies).toMatchObject({
    status: "warning",
    items: [{
      function: "app.ov(text)",
      in_file: true,
      line: 2,
      names: [{ kind: "column", name: "v", new_name: "vv", line: 1 }],
    }],
  });
});

test("a value of an enum is found inside the text of an array", async ({ freshApi }) => {
  const { function_bodies } = await lookAt(freshApi, "alter type app.mood rename value 'glum' to 'gloomy'");
  expect(function_bodies).toMatchObject({ status: "warning", items: [{ function: "app.moods()" }] });
});

test("bodies that are too long to be searched are told", async ({ freshApi }) => {
  const body = `select 1 -- ${"x".repeat(200_000)}`;
  const migration = ["a", "b"].map((name) => `create function ${name}() returns int language sql as $$ ${body}\n$$;\n`);
  const { unknown_effects, function_bodies } = await lookAt(freshApi, migration.join(""));
  expect(unknown_effects).toMatchObject({
    status: "warning",
    items: [{ line: 3, code: "effect_unknown", statement: "CREATE FUNCTION" }],
  });
  expect(function_bodies).toMatchObject({ status: "warning", items: [] });
});

test("a preflight takes no parameter that it does not know", async ({ api }) => {
  await api.call("PUT", "/v1/plans/v10.0", { json: examplePlan });
  expect((await api.call("POST", "/v1/plans/v10/preflight?foo=bar")).json).toMatchObject({
    status: 400,
    code: "invalid_request",
  });
  expect((await api.call("POST", "/v1/plans/v10/preflight?pretty")).status).toBe(200);
});
