import { expect } from "vitest";
import { type CallOptions, test } from "../support/api.ts";

type Case = [name: string, method: string, path: string, options: CallOptions, status: number, code: string];

const json = { "content-type": "application/json" };
const aMebibyte = 1024 * 1024;
const job = "00000000-0000-4000-8000-000000000000";

const cases: Case[] = [
  ["an unknown version", "GET", "/v1/backups/v99", {}, 404, "backup_not_found"],
  ["an unknown plan", "GET", "/v1/plans/v99", {}, 404, "plan_not_found"],
  ["a plan to remove that is not there", "DELETE", "/v1/plans/v99", {}, 404, "plan_not_found"],
  ["a backup of a version without a plan", "POST", "/v1/backups", { json: { version: "v99" } }, 404, "plan_not_found"],
  ["the verification of no backup", "POST", "/v1/backups/v99/verify", {}, 404, "backup_not_found"],
  ["the checklist of no backup", "GET", "/v1/backups/v99/checklist", {}, 404, "backup_not_found"],
  ["the cleanup plan of no backup", "GET", "/v1/backups/v99/cleanup-plan", {}, 404, "backup_not_found"],
  ["the sign-off of no backup", "POST", "/v1/backups/v99/confirm", { json: { note: "x" } }, 404, "backup_not_found"],
  [
    "the cleanup of no backup",
    "DELETE",
    "/v1/backups/v99",
    { json: { confirm: "x", token: "y" } },
    404,
    "backup_not_found",
  ],
  ["an unknown job", "GET", `/v1/jobs/${job}`, {}, 404, "job_not_found"],
  ["a job id that is none", "GET", "/v1/jobs/7", {}, 400, "invalid_request"],
  ["a malformed version in the path", "GET", "/v1/backups/ten", {}, 400, "invalid_request"],
  ["a malformed version in the body", "POST", "/v1/backups", { json: { version: "10" } }, 400, "invalid_request"],
  [
    "a version with SQL in the path",
    "GET",
    `/v1/backups/${encodeURIComponent("v10; drop schema public")}`,
    {},
    400,
    "invalid_request",
  ],
  [
    "a version with SQL in the body",
    "POST",
    "/v1/backups",
    { json: { version: "v10; drop schema public" } },
    400,
    "invalid_request",
  ],
  ["a version with a leading zero", "GET", "/v1/plans/v010", {}, 400, "invalid_request"],
  ["a version of 13 digits", "GET", "/v1/plans/2026010100000", {}, 400, "invalid_request"],
  ["a body that is not JSON", "POST", "/v1/backups", { body: "{version: v10", headers: json }, 400, "invalid_json"],
  ["a body that is another type of JSON", "POST", "/v1/backups", { json: ["v10"] }, 400, "invalid_request"],
  ["an empty body", "POST", "/v1/backups", { headers: json }, 400, "invalid_json"],
  [
    "a malformed body that may be left out",
    "POST",
    "/v1/backups/v99/verify",
    { body: "{", headers: json },
    400,
    "invalid_json",
  ],
  ["no body that is said to be JSON", "POST", "/v1/backups/v99/verify", { headers: json }, 404, "backup_not_found"],
  ["a body that is missing", "PUT", "/v1/plans/v10", {}, 400, "invalid_request"],
  [
    "a body that is not said to be JSON",
    "POST",
    "/v1/backups",
    { body: '{"version": "v10"}' },
    415,
    "unsupported_media_type",
  ],
  [
    "no body that is said to be text",
    "PUT",
    "/v1/plans/v10",
    { headers: { "content-type": "text/plain" } },
    415,
    "unsupported_media_type",
  ],
  ["an unknown field", "POST", "/v1/backups", { json: { version: "v10", force: true } }, 400, "invalid_request"],
  [
    "an unknown field of a plan",
    "PUT",
    "/v1/plans/v10",
    { json: { tables: ["profiles"], tabels: [] } },
    400,
    "invalid_request",
  ],
  ["an unknown query parameter", "GET", "/v1/jobs?verison=v10", {}, 400, "invalid_request"],
  ["a limit out of range", "GET", "/v1/jobs?limit=1000", {}, 400, "invalid_request"],
  ["a plan that names nothing", "PUT", "/v1/plans/v10", { json: { tables: [] } }, 400, "invalid_request"],
  ["a plan of a table as a text", "PUT", "/v1/plans/v10", { json: { tables: "profiles" } }, 400, "invalid_request"],
  ["a plan with a match of blanks", "PUT", "/v1/plans/v10", { json: { match: "   " } }, 400, "invalid_plan"],
  ["a plan with a match of a letter", "PUT", "/v1/plans/v10", { json: { match: "c" } }, 400, "invalid_request"],
  [
    "a plan with a blank contact",
    "PUT",
    "/v1/plans/v10",
    { json: { tables: ["profiles"], contacts: [" "] } },
    400,
    "invalid_request",
  ],
  ["a plan with a NUL in a name", "PUT", "/v1/plans/v10", { json: { tables: ["a\u0000b"] } }, 400, "invalid_request"],
  [
    "a plan with half a day of retention",
    "PUT",
    "/v1/plans/v10",
    { json: { tables: ["profiles"], retention_days: 0.5 } },
    400,
    "invalid_request",
  ],
  [
    "a plan naming a table that does not exist",
    "PUT",
    "/v1/plans/v10",
    { json: { tables: ["profiles", "profile"] } },
    422,
    "objects_not_found",
  ],
  [
    "a plan with half a surrogate pair",
    "PUT",
    "/v1/plans/v10",
    {
      body: '{"tables": ["profiles"], "title": "\\ud800"}',
      headers: json,
    },
    400,
    "invalid_request",
  ],
  [
    "a plan with a hundred thousand wrong names",
    "PUT",
    "/v1/plans/v10",
    {
      json: { tables: Array(100_000).fill(0) },
    },
    400,
    "invalid_request",
  ],
  ["a sign-off without a note", "POST", "/v1/backups/v10/confirm", { json: { note: "  " } }, 400, "invalid_request"],
  ["the diff of no backup", "POST", "/v1/backups/v99/diff", {}, 404, "backup_not_found"],
  ["a diff with a wish that is unknown", "POST", "/v1/backups/v10/diff", { json: { keys: 5 } }, 400, "invalid_request"],
  ["a diff of 101 keys", "POST", "/v1/backups/v10/diff", { json: { sample_keys: 101 } }, 400, "invalid_request"],
  ["a diff of half a key", "POST", "/v1/backups/v10/diff", { json: { sample_keys: 0.5 } }, 400, "invalid_request"],
  ["the rollback plan of no backup", "GET", "/v1/backups/v99/rollback-plan", {}, 404, "backup_not_found"],
  [
    "a rollback plan with a misspelt option",
    "GET",
    "/v1/backups/v10/rollback-plan?date=keep",
    {},
    400,
    "invalid_request",
  ],
  [
    "a rollback plan with an unknown mode",
    "GET",
    "/v1/backups/v10/rollback-plan?data=drop",
    {},
    400,
    "invalid_request",
  ],
  [
    "a rollback plan with an unknown mode of a table",
    "GET",
    "/v1/backups/v10/rollback-plan?data=profiles:drop",
    {},
    400,
    "invalid_request",
  ],
  [
    "a rollback plan with two modes of a table",
    "GET",
    "/v1/backups/v10/rollback-plan?data=profiles:keep,profiles:restore",
    {},
    400,
    "invalid_request",
  ],
  [
    "a rollback plan with a mode of no table",
    "GET",
    "/v1/backups/v10/rollback-plan?data=:keep",
    {},
    400,
    "invalid_request",
  ],
  ["a rollback plan with half an object", "GET", "/v1/backups/v10/rollback-plan?data={", {}, 400, "invalid_request"],
  ["a rollback plan that drops nothing", "GET", "/v1/backups/v10/rollback-plan?drop_new=", {}, 400, "invalid_request"],
  [
    "a rollback plan that leaves what is deleted, perhaps",
    "GET",
    "/v1/backups/v10/rollback-plan?leave_deleted=maybe",
    {},
    400,
    "invalid_request",
  ],
  [
    "the rollback of no backup",
    "POST",
    "/v1/backups/v99/rollback",
    { json: { plan_hash: "0".repeat(64) } },
    404,
    "backup_not_found",
  ],
  ["a rollback without a plan's hash", "POST", "/v1/backups/v10/rollback", { json: {} }, 400, "invalid_request"],
  [
    "a rollback of half a hash",
    "POST",
    "/v1/backups/v10/rollback",
    { json: { plan_hash: "0f" } },
    400,
    "invalid_request",
  ],
  [
    "a rollback with an unknown mode",
    "POST",
    "/v1/backups/v10/rollback",
    { json: { plan_hash: "0".repeat(64), data: { profiles: "drop" } } },
    400,
    "invalid_request",
  ],
  [
    "a rollback with an unknown option",
    "POST",
    "/v1/backups/v10/rollback",
    { json: { plan_hash: "0".repeat(64), force: true } },
    400,
    "invalid_request",
  ],
  [
    "a rollback that may be a rehearsal",
    "POST",
    "/v1/backups/v10/rollback",
    { json: { plan_hash: "0".repeat(64), rehearse: "true" } },
    400,
    "invalid_request",
  ],
  ["a body of 2 MiB", "PUT", "/v1/plans/v10", { json: { tables: ["x".repeat(2 * aMebibyte)] } }, 413, "body_too_large"],
  ["a path that is not there", "GET", "/v1/nothing", {}, 404, "not_found"],
  ["a method that a path does not have", "PATCH", "/v1/backups", {}, 405, "method_not_allowed"],
];

for (const [name, method, path, options, status, code] of cases) {
  test(`${name} gives ${status} ${code}, and changes nothing`, async ({ api }) => {
    const answer = await api.call(method, path, options);
    expect(answer.json).toMatchObject({ status, code });
    expect(answer.status).toBe(status);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(answer.headers.get("cache-control")).toBe("no-store");
    expect(answer.text).not.toMatch(/select |PL\/pgSQL|\bat .*:\d+:\d+|sb_secret/);
    expect(await api.database.sql`select from migration_guard.plans`).toHaveLength(0);
    expect(await api.database.sql`select from migration_guard.jobs`).toHaveLength(0);
  });
}

test("a list of too many names is refused with how many there may be", async ({ api }) => {
  const names = Array.from({ length: 1001 }, (_, i) => `table_${i}`);
  for (const list of ["tables", "enums", "functions"]) {
    const { status, json } = await api.call("PUT", "/v1/plans/v10", { json: { [list]: names } });
    expect({ status, code: json.code, detail: json.detail })
      .toMatchObject({
        status: 400,
        code: "invalid_request",
        detail: expect.stringMatching(new RegExp(`^${list}: .*1000`)),
      });
  }
});

test("a 422 lists every name that does not exist, with the nearest that do", async ({ api }) => {
  const plan = {
    tables: ["profiles", "profile", "Notes", "public.invite_codes", "warehouse"],
    enums: ["user_roles"],
    functions: ["is_coordinator(text)", "is_cordinator"],
  };
  const answer = await api.call("PUT", "/v1/plans/v10", { json: plan });
  expect(answer).toMatchObject({ status: 422, json: { code: "objects_not_found" } });
  expect(answer.json.errors).toEqual([
    { kind: "enum", name: "user_roles", nearest: ["user_role"] },
    {
      kind: "function",
      name: "is_coordinator(text)",
      nearest: ["is_coordinator(uuid)", "is_client_coordinator(uuid, uuid)"],
    },
    { kind: "function", name: "is_cordinator", nearest: ["is_coordinator"] },
    { kind: "table", name: "Notes", nearest: ["coordinator_notes"] },
    { kind: "table", name: "profile", nearest: ["profiles"] },
    { kind: "table", name: "public.invite_codes", nearest: ["invite_codes", "invite_code_usage"] },
    { kind: "table", name: "warehouse", nearest: [] },
  ]);
  expect(answer.json.detail).toContain("table profile (did you mean profiles?), ");
  expect(answer.json.detail).toMatch(/table warehouse\.$/);
});

test("a 422 of a schema that does not exist offers schemas", async ({ api }) => {
  const { json } = await api.call("PUT", "/v1/plans/v10", { json: { schema: "pubic", tables: ["profiles"] } });
  expect(json.errors).toEqual([
    { kind: "schema", name: "pubic", nearest: ["public"] },
    { kind: "table", name: "profiles", nearest: [] },
  ]);
});

test("a 422 of a thousand names in a schema of thousands is answered, and small", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await database.sql.unsafe(`
    do $$ begin
      for i in 1..3000 loop execute format('create type public.status_of_%s as enum ()', md5(i::text)); end loop;
    end $$`);
  const enums = Array.from({ length: 1000 }, (_, i) => `status_of_a_long_name_that_is_not_there_${i}`);
  const refused = await call("PUT", "/v1/plans/v10", { json: { enums } });
  expect(refused.status).toBe(422);
  expect(refused.json.errors).toHaveLength(1000);
  expect(refused.text.length).toBeLessThan(1_000_000);
  expect(refused.json.errors[0]).toMatchObject({ nearest: [] });
});

test("a 400 says which field is wrong", async ({ api }) => {
  const answer = await api.call("PUT", "/v1/plans/v10", { json: { tables: "profiles", retention_days: 0 } });
  expect(answer.json.errors.map((error: { path: string }) => error.path)).toEqual(["tables", "retention_days"]);
});

test.for<[string, Record<string, unknown>, string]>([
  ["PUT /v1/plans/v10", { tables: ["profiles"], retention_day: 3 }, '"retention_day" (did you mean retention_days?)'],
  ["PUT /v1/plans/v10", { table: ["profiles"] }, '"table" (did you mean tables?)'],
  ["PUT /v1/plans/v10", { Enums: [], warehouse: 1 }, '"Enums" (did you mean enums?), "warehouse"'],
  ["POST /v1/backups", { version: "v10", verison: "v10" }, '"verison" (did you mean version?)'],
  ["POST /v1/backups", { version: "v10", force: true }, '"force"'],
])("%s with %j is told what there is not, and the nearest that there is", async ([route, body, named], { api }) => {
  const [method, path] = route.split(" ") as [string, string];
  const { json: problem } = await api.call(method, path, { json: body });
  expect(problem).toMatchObject({ code: "invalid_request" });
  expect(problem.errors).toContainEqual({ path: "", message: `There is no ${named}` });
  expect(problem.detail).toContain(`There is no ${named}`);
});

test("a misspelt query parameter is told the nearest that there is", async ({ api }) => {
  const { json: { detail } } = await api.call("GET", "/v1/jobs?verison=v10");
  expect(detail).toBe('There is no "verison" (did you mean version?)');
});

test.for([
  "GET /v1/backups",
  "GET /v1/backups/v10",
  "GET /v1/plans",
  "POST /v1/backups/v10/verify",
  "DELETE /v1/plans/v10",
])("%s has no query parameters, and refuses one before it does anything", async (route, { api }) => {
  const [method, path] = route.split(" ") as [string, string];
  const { status, json: problem } = await api.call(method, `${path}?version=v10`);
  expect([status, problem.code, problem.detail]).toEqual([400, "invalid_request", 'There is no "version"']);
  expect((await api.call(method, `${path}?pretty`)).json.code).not.toBe("invalid_request");
});

test.for(
  [
    ["GET", "/health", {}, 200],
    ["GET", "/v1/plans", {}, 200],
    ["GET", "/v1/jobs", {}, 200],
    ["GET", "/v1/jobs?pretty&limit=1", {}, 200],
    ["GET", "/v1/backups/v10/rollback-plan?data=keep", {}, 404],
    ["GET", "/v1/backups/v10/rollback-plan?data=mine", {}, 400],
    ["POST", "/v1/backups", { json: { version: "v98" } }, 404],
    ["POST", "/v1/plans/v98/derive?schema=public", {
      body: "select 1",
      headers: { "content-type": "application/sql" },
    }, 200],
  ] as const,
)("%s %s is answered in the region that the client has chosen", async ([method, path, options, wanted], { api }) => {
  const url = `${path}${path.includes("?") ? "&" : "?"}forceFunctionRegion=eu-central-1`;
  const { status, text } = await api.call(method, url, options);
  expect([status, text]).toEqual([wanted, expect.not.stringContaining("forceFunctionRegion")]);
  if (path.includes("pretty")) expect(text).toMatch(/^\{\n/);
});

test("of fifty thousand unknown fields the first are named", async ({ api }) => {
  const unknown = Object.fromEntries(Array.from({ length: 50_000 }, (_, i) => [`tables_${i}`, 0]));
  const { json: { errors, detail }, text } = await api.call("PUT", "/v1/plans/v10", { json: unknown });
  expect(errors[0].message).toMatch(/^There is no "tables_0" \(did you mean tables\?\), .* and 49980 more$/);
  expect(detail).toContain("49980 more");
  expect(text.length).toBeLessThan(5000);
});

test("a sign-off without a note is told what is missing, and what to send", async ({ api }) => {
  const path = "/v1/backups/v10/confirm";
  const shown = 'Send a body like {"note":"All green since Monday."}.';
  const told = async (options: CallOptions) => (await api.call("POST", path, options)).json.detail;
  expect(await told({})).toBe(`note: is missing. ${shown}`);
  expect(await told({ json: {} })).toBe(`note: is missing. ${shown}`);
  expect(await told({ headers: json })).toBe(`The body could not be read as JSON. ${shown}`);
  expect(await told({ headers: json, body: "done" })).toBe(`The body could not be read as JSON. ${shown}`);
  expect(await told({ json: ["done"] })).toBe(`Invalid input: expected object, received array. ${shown}`);
  expect(await told({ json: { note: 5 } })).toBe("note: Invalid input: expected string, received number");
});

test("a body that may be left out is not said to be missing", async ({ api }) => {
  const { json: { detail } } = await api.call("POST", "/v1/backups/v10/verify", { headers: json, body: "{" });
  expect(detail).toBe("The body could not be read as JSON.");
});

test("a 400 shows how an option of a rollback plan is written", async ({ api }) => {
  const answer = await api.call("GET", "/v1/backups/v10/rollback-plan?data=profiles&drop_new=a,,b&leave_deleted=yes");
  expect(answer.json.errors).toEqual([
    { path: "data", message: expect.stringContaining("profiles:restore,invite_codes:keep") },
    { path: "drop_new", message: expect.stringContaining("all, blocking, names of tables") },
    { path: "leave_deleted", message: expect.stringContaining('"true"|"false"') },
  ]);
});

test("tables with odd names, without rows and without a key are backed up", async ({ freshApi }) => {
  const { call, database } = freshApi;
  const names = ['Mixed "Case".table', "a".repeat(63), "пользователи; drop table profiles", "empty", "no key"];
  for (const name of names) {
    await database.sql`create table ${database.sql(`x`)} (id int)`.simple();
    await database.sql.unsafe(`alter table x rename to "${name.replaceAll('"', '""')}"`);
    if (name !== "empty") {
      await database.sql.unsafe(`insert into "${name.replaceAll('"', '""')}" values (1), (1), (null)`);
    }
  }
  expect((await call("PUT", "/v1/plans/v2", { json: { tables: names } })).status).toBe(201);
  expect((await call("POST", "/v1/backups", { json: { version: "v2" }, wait: 60 })).json).toMatchObject({
    status: "succeeded",
  });
  expect((await call("POST", "/v1/backups/v2/verify", { wait: 60 })).json).toMatchObject({ result: { ok: true } });
  const { json } = await call("GET", "/v1/backups/v2");
  expect(json.tables.map((table: { row_count: number }) => table.row_count).sort()).toEqual([0, 3, 3, 3, 3]);
});
