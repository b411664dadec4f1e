import { expect } from "vitest";
import { publishableKeys, serviceRoleKey } from "../../local/keys.ts";
import { type Api, credentials, giveRoles, startApi, test as base } from "../support/api.ts";
import { examplePlan } from "../support/example.ts";
import { until } from "../support/until.ts";

type Entry = Record<string, unknown> & { parameters: Record<string, unknown> };

const test = base.extend("guarded", async ({ freshApi }) => {
  await giveRoles(freshApi);
  return freshApi;
});

const wait = 60;

async function entries({ call }: Api, query = ""): Promise<Entry[]> {
  const { status, json } = await call("GET", `/v1/audit?limit=200${query}`);
  expect(status).toBe(200);
  return json.entries;
}

/** The entry of a request, which a refused one does not wait for. */
const entryOf = (api: Api, requestId: string, action?: string) =>
  until(async () =>
    (await entries(api)).find((entry) => entry.request_id === requestId && (!action || entry.action === action))
  );

test("a request is told with its key, its id, its source and what it asked for, and its job by the same id", async ({ guarded }) => {
  const { call } = guarded;
  const headers = { "x-request-id": "night-7" };
  const asOperator = { credentials: credentials.operator, headers };
  await call("PUT", "/v1/plans/v10", { ...asOperator, json: examplePlan });
  const { json: job } = await call("POST", "/v1/backups", { ...asOperator, json: { version: "v10" }, wait });
  expect(job.status).toBe("succeeded");
  const usual = { actor: "night_shift", db_user: "authenticator", request_id: "night-7", source: "127.0.0.1" };
  expect(await entryOf(guarded, "night-7", "plan.put")).toMatchObject({
    ...usual,
    ...{ role: "operator", version: "v10.0", job_id: null, outcome: "done" },
    parameters: { tables: examplePlan.tables },
  });
  expect(await entryOf(guarded, "night-7", "backup")).toMatchObject({ ...usual, job_id: job.id, outcome: "done" });
  const ofJob = await entries(guarded, "&action=job.backup");
  expect(ofJob).toMatchObject(
    ["succeeded", "running", "queued"].map((outcome) => ({
      ...{ actor: "night_shift", request_id: "night-7", job_id: job.id, outcome, role: null },
    })),
  );
  expect(ofJob[0]).toMatchObject({ db_user: "postgres" });
});

test("whoever is not let in is told of, and so is what a role or a guard refuses", async ({ guarded }) => {
  const { call } = guarded;
  const ask = (requestId: string, method: string, path: string, options = {}) =>
    call(method, path, { ...options, headers: { "x-request-id": requestId } });
  await call("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  await call("POST", "/v1/backups", { json: { version: "v1" }, wait });
  const as = (name: keyof typeof credentials) => ({ credentials: credentials[name] });

  await ask("no-key", "GET", "/v1/plans", { credentials: {} });
  await ask("stray", "DELETE", "/v1/backups/v1", { credentials: { apikey: "sb_secret_STRAY" } });
  await ask("public", "GET", "/nowhere/SECRET", { credentials: { apikey: publishableKeys.default } });
  await ask("role", "POST", "/v1/backups", { ...as("viewer"), json: { version: "v1" } });
  await ask("values", "POST", "/v1/backups/v1/diff", { ...as("operator"), json: { include_values: true } });
  await ask("guard", "POST", "/v1/backups", { ...as("operator"), json: { version: "v1" } });
  await ask("cleanup", "DELETE", "/v1/backups/v1", { json: { confirm: "x", token: "SECRET" } });
  await ask("fine", "GET", "/v1/plans/v9");

  const refused = { outcome: "refused", source: "127.0.0.1", db_user: "authenticator" };
  expect(await entryOf(guarded, "no-key")).toMatchObject({
    ...refused,
    ...{ actor: null, role: null, action: "request", version: null },
    parameters: { method: "GET", path: "/v1/plans", status: 401, code: "missing_credentials" },
  });
  expect(await entryOf(guarded, "stray")).toMatchObject({
    ...refused,
    ...{ actor: null, action: "cleanup", version: "v1.0" },
    parameters: { method: "DELETE", path: "/v1/backups/{version}", status: 401, code: "invalid_credentials" },
  });
  expect(await entryOf(guarded, "public")).toMatchObject({
    ...refused,
    action: "request",
    parameters: { method: "GET", status: 403, code: "service_role_required" },
  });
  expect(await entryOf(guarded, "role")).toMatchObject({
    ...refused,
    ...{ actor: "watcher", role: "viewer", action: "backup" },
    parameters: { status: 403, code: "role_required", required: "operator" },
  });
  expect(await entryOf(guarded, "values")).toMatchObject({
    ...refused,
    ...{ actor: "night_shift", role: "operator", action: "diff.values", version: "v1.0" },
    parameters: { code: "role_required", required: "admin" },
  });
  expect(await entryOf(guarded, "guard")).toMatchObject({
    ...refused,
    ...{ actor: "night_shift", action: "backup", version: "v1.0" },
    parameters: { status: 409, code: "backup_exists" },
  });
  expect(await entryOf(guarded, "cleanup")).toMatchObject({
    ...refused,
    ...{ actor: "default", action: "cleanup" },
    parameters: {
      ...{ status: 409, code: "cleanup_refused" },
      guards: expect.arrayContaining(["confirm_names_schema", "token_is_valid", "migration_confirmed"]),
    },
  });
  // What is overridden does not refuse, and that it was tried is told.
  const override = { guard: "retention_passed", reason: "SECRET, but longer" };
  await ask("override", "DELETE", "/v1/backups/v1", { json: { confirm: "x", token: "SECRET", override } });
  const { parameters: tried } = await entryOf(guarded, "override");
  expect(tried).toMatchObject({ code: "cleanup_refused", override: { guard: "retention_passed" } });
  expect(tried.guards).toContain("migration_confirmed");
  expect(tried.guards).not.toContain("retention_passed");
  const all = await entries(guarded);
  expect(all.filter(({ request_id }) => request_id === "fine")).toEqual([]);
  expect(JSON.stringify(all)).not.toMatch(/SECRET|STRAY|sb_/);
  expect((await call("GET", "/v1/audit/verify")).json).toMatchObject({ intact: true, first_broken: null });
});

test("a refusal that cannot be recorded is answered all the same, and logged", async ({ onTestFinished }) => {
  let log = "";
  const api = await startApi("with_example", { onLog: (text) => void (log += text) });
  onTestFinished(api.stop);
  const admin = api.database.connect("supabase_admin");
  await admin`alter table migration_guard.audit_log add constraint no_room check (outcome <> 'refused')`;
  const headers = { "x-request-id": "lost-1" };
  expect((await api.call("GET", "/v1/plans", { credentials: {}, headers })).status).toBe(401);
  const notRecorded = () =>
    log.split("\n").filter((line) => line.includes("refusal_not_recorded")).map((line) => JSON.parse(line));
  await expect.poll(notRecorded, { timeout: 60_000 }).toEqual([{
    level: "error",
    event: "refusal_not_recorded",
    request_id: "lost-1",
    code: "database_error",
  }]);
});

test("an act that cannot be recorded is not done", async ({ guarded }) => {
  const admin = guarded.database.connect("supabase_admin");
  await admin`alter table migration_guard.audit_log add constraint no_room check (action <> 'plan.put')`;
  expect((await guarded.call("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } })).status).toBe(500);
  expect((await guarded.call("GET", "/v1/plans")).json).toEqual({ plans: [] });
});

test("the trail is read page by page, newest first, and by each filter", async ({ guarded }) => {
  const { call } = guarded;
  for (let i = 1; i <= 5; i++) await call("PUT", `/v1/keys/key%20${i}`, { json: { role: "viewer" } });
  const whole = await entries(guarded);
  const pages: Entry[] = [];
  let cursor = "";
  do {
    const { json } = await call("GET", `/v1/audit?limit=2${cursor && `&cursor=${cursor}`}`);
    expect(json.entries.length).toBeLessThanOrEqual(2);
    pages.push(...json.entries);
    cursor = json.next_cursor;
  } while (cursor);
  expect(pages).toEqual(whole);
  expect(whole.map(({ id }) => id)).toEqual(whole.map(({ id }) => id).toSorted((a, b) => Number(b) - Number(a)));
  const [newest] = whole;
  const at = encodeURIComponent(newest!.at as string);
  expect(await entries(guarded, `&since=${at}`)).toEqual([newest]);
  expect(await entries(guarded, `&until=${at}`)).toEqual(whole.slice(1));
  expect(await entries(guarded, "&actor=default&action=key.put&outcome=done")).toEqual(whole);
  expect(await entries(guarded, "&actor=nobody")).toEqual([]);
  expect(await entries(guarded, "&version=v9")).toEqual([]);
});

test("times are refused that Postgres does not have, and no others", async ({ guarded: { call } }) => {
  const statusOf = async (time: string) =>
    await Promise.all(
      ["since", "until"].map(async (name) =>
        (await call("GET", `/v1/audit?${name}=${encodeURIComponent(time)}`)).status
      ),
    );
  const times = [
    ...["0000-01-01T00:00:00Z", "2026-01-01T00:00:00+16:00", "2026-01-01T00:00:00-23:59", "2026-01-01T00:00:00"],
    ...[`2026-01-01T00:00:00.${"1".repeat(200)}Z`, "2026-02-30T00:00:00Z"],
  ];
  for (const time of times) expect(await statusOf(time), time).toEqual([400, 400]);
  const others = [
    ...["0001-01-01T00:00:00+15:59", "9999-12-31T23:59:59.999999-15:59", "2026-11-16T16:20:26.123456789Z"],
    ...["2026-01-20T00:00:00-12:00", "2000-02-29T23:59:59+14:00"],
  ];
  for (const time of others) expect(await statusOf(time), time).toEqual([200, 200]);
});

test("the head is the newest hash, and a verification finds it again, or what was changed since", async ({ guarded }) => {
  const { call, database } = guarded;
  const { json: head } = await call("GET", "/v1/audit/head");
  const [newest] = await entries(guarded);
  const pending = { pending: 0, oldest_pending_at: null };
  expect(head).toEqual({ number: newest!.number, hash: newest!.hash, at: newest!.at, ...pending });
  const verify = async (query = "") => (await call("GET", `/v1/audit/verify${query}`)).json;
  expect(await verify(`?expected_hash=${head.hash}`)).toEqual({
    ...{ intact: true, entries: 2, head: head.hash, first_broken: null, next_number: null, last_hash: head.hash },
    ...pending,
  });
  const part = await verify("?limit=1");
  expect(part).toMatchObject({ intact: true, entries: 1, head: head.hash, next_number: 2 });
  expect(await verify(`?from_number=2&previous_hash=${part.last_hash}`)).toMatchObject({
    ...{ intact: true, entries: 1, next_number: null, last_hash: head.hash },
  });
  expect(await verify(`?from_number=2&previous_hash=${head.hash}`)).toMatchObject({
    intact: false,
    first_broken: { number: 1, entry_id: null },
  });
  expect(await verify(`?expected_hash=${"0".repeat(64)}`)).toMatchObject({
    intact: false,
    first_broken: { number: null, entry_id: null },
  });
  await database.connect("supabase_admin").unsafe(`
    alter table migration_guard.audit_log disable trigger all;
    update migration_guard.audit_log set actor = 'somebody' where id = ${newest!.id}`).simple();
  expect(await verify()).toMatchObject({
    intact: false,
    first_broken: { number: newest!.number, entry_id: newest!.id, why: expect.stringContaining("changed") },
  });
});

test.for(["from_number=0", "from_number=x", "previous_hash=x", "limit=0", "limit=200001"])(
  "a verification with %s is refused",
  async (query, { api: { call } }) => {
    expect((await call("GET", `/v1/audit/verify?${query}`)).json).toMatchObject({
      status: 400,
      code: "invalid_request",
    });
  },
);

test("a token of service_role is told by that name", async ({ guarded }) => {
  const bearer = { authorization: `Bearer ${serviceRoleKey}` };
  await guarded.call("PUT", "/v1/plans/v1", { credentials: bearer, json: { tables: ["profiles"] } });
  expect((await entries(guarded))[0]).toMatchObject({ actor: "service_role", role: "admin", action: "plan.put" });
});

test.for([
  "limit=0",
  "limit=201",
  "cursor=x",
  "cursor=-1",
  "version=ten",
  "since=yesterday",
  "until=2026-01-01",
  "actr=default",
])("a look at the trail with %s is refused", async (query, { api: { call } }) => {
  expect((await call("GET", `/v1/audit?${query}`)).json).toMatchObject({ status: 400, code: "invalid_request" });
});
