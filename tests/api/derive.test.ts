import { expect } from "vitest";
import { type Api, type CallOptions, test } from "../support/api.ts";
import { exampleFile, examplePlan } from "../support/example.ts";

const path = "/v1/plans/v10.0/derive";
const sql = { "content-type": "application/sql" };
const migration = exampleFile("migrations", "v10.0_coordinator_to_curator.sql");

const derive = (api: Api, body: BodyInit, query = "", headers: Record<string, string> = sql) =>
  api.call("POST", path + query, { body, headers });

test("v10.0 derives a plan that holds all that the hand-written one does, which is stored, backed up and verified", async ({ freshApi }) => {
  const { call } = freshApi;
  const { status, json } = await derive(freshApi, migration);
  expect(status).toBe(200);
  expect(json).toMatchObject({ version: "v10.0", plan: { schema: "public" }, warnings: [] });
  for (const list of ["tables", "enums", "functions"]) {
    expect(json.plan[list]).toEqual(expect.arrayContaining(examplePlan[list]));
  }
  expect(json.objects).toContainEqual({
    kind: "enum_value",
    identity: "'coordinator' of public.user_role",
    reason: "ALTER TYPE … RENAME VALUE",
    line: migration.split("\n").findIndex((line) => line.includes("rename value")) + 1,
  });
  expect((await call("PUT", "/v1/plans/v10.0", { json: json.plan })).status).toBe(201);
  expect((await call("POST", "/v1/backups", { json: { version: "v10" }, wait: 60 })).json.status).toBe("succeeded");
  expect((await call("POST", "/v1/backups/v10/verify", { wait: 60 })).json.result.ok).toBe(true);
});

test("what cannot be known is a warning with its line, in any alphabet and with any line ends", async ({ api }) => {
  const text = "-- Миграция 🙂\r\nselect 'ёж';\r\n\r\ndo $$ begin end $$;\r\nexecute p;\r\ndrop table public.profile;";
  const { json } = await derive(api, text);
  expect(json.warnings.map(({ line, code }: { line: number; code: string }) => [line, code])).toEqual([
    [4, "effect_unknown"],
    [5, "effect_unknown"],
    [6, "not_found"],
    [null, "nothing_touched"],
  ]);
});

test("another schema can be asked for, and text/plain is taken as well", async ({ api }) => {
  const plain = { "content-type": "text/plain; charset=utf-8" };
  const { json } = await derive(api, "\uFEFFcomment on table auth.users is ''", "?schema=auth", plain);
  expect(json.plan).toMatchObject({ schema: "auth", tables: ["users"] });
});

test("deriving a plan stores nothing", async ({ api }) => {
  await derive(api, migration);
  expect(await api.database.sql`select from migration_guard.plans`).toHaveLength(0);
});

test("a syntax error tells its line and the parser's message", async ({ api }) => {
  const { status, json } = await derive(api, "select 'Ж';\n\n selct 1;");
  expect(status).toBe(400);
  expect(json).toMatchObject({
    code: "invalid_migration",
    detail: 'Line 3: syntax error at or near "selct".',
    errors: [{ line: 3, message: 'syntax error at or near "selct"' }],
  });
});

test("after twenty files that are too much for the parser, a large and a small one are derived", async ({ api }) => {
  for (let round = 0; round < 20; round++) {
    const { status, json } = await derive(api, `select 1${"+1".repeat(520_000)}`);
    expect([status, json?.code]).toEqual([400, "invalid_migration"]);
  }
  for (const repeated of [15_000, 1]) {
    const { status, json } = await derive(api, "comment on table profiles is '';\n".repeat(repeated));
    expect([status, json?.plan?.tables]).toEqual([200, ["profiles"]]);
  }
});

test.for<[name: string, options: CallOptions, status: number, code: string, query?: string]>([
  ["no body", {}, 400, "invalid_request"],
  ["an empty body", { body: "", headers: sql }, 400, "invalid_request"],
  ["a body that is not UTF-8", { body: new Uint8Array([0x2d, 0x2d, 0xff]), headers: sql }, 400, "invalid_migration"],
  ["a command of psql's", { body: "\\i other.sql", headers: sql }, 400, "invalid_migration"],
  ["a NUL character", { body: "select 1;\0drop table x", headers: sql }, 400, "invalid_migration"],
  ["an endless expression", { body: `select 1${"+1".repeat(100_000)}`, headers: sql }, 400, "invalid_migration"],
  ["JSON", { json: { sql: "select 1" } }, 415, "unsupported_media_type"],
  [
    "another charset",
    { body: "select 1", headers: { "content-type": "text/plain; charset=koi8-r" } },
    415,
    "unsupported_media_type",
  ],
  [
    "what curl -d declares",
    { body: "select 1", headers: { "content-type": "application/x-www-form-urlencoded" } },
    415,
    "unsupported_media_type",
  ],
  ["more than a mebibyte", { body: "-".repeat(1024 * 1024 + 1), headers: sql }, 413, "body_too_large"],
  ["an unknown schema", { body: "select 1", headers: sql }, 422, "objects_not_found", "?schema=nothing"],
  ["an unknown parameter", { body: "select 1", headers: sql }, 400, "invalid_request", "?shema=public"],
])("%s gives %s", async ([, options, status, code, query = ""], { api }) => {
  const answer = await api.call("POST", path + query, options);
  expect(answer.json).toMatchObject({ status, code });
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
});

test("SQL is taken where a migration is wanted, and nowhere else", async ({ api }) => {
  const answer = await api.call("PUT", "/v1/plans/v10", { body: "select 1", headers: sql });
  expect(answer.json).toMatchObject({ status: 415, code: "unsupported_media_type" });
});

test("a migration of a mebibyte is read", async ({ api }) => {
  const line = "insert into public.profiles (id) values (gen_random_uuid());\n";
  const { status, json } = await derive(api, line.repeat(Math.floor(1024 * 1024 / line.length)));
  expect(status).toBe(200);
  expect(json.plan.tables).toEqual(["profiles"]);
});

test("a file whose lines curl has joined behind a comment is refused, and not taken for one that touches nothing", async ({ api }) => {
  const body = "-- Renames.  alter table public.profiles rename to people;";
  const { json } = await api.call("POST", "/v1/plans/v10/derive", {
    body,
    headers: { "content-type": "application/sql" },
  });
  expect(json).toMatchObject({
    status: 400,
    code: "invalid_migration",
    detail: expect.stringContaining("--data-binary"),
  });
});
