import { createClient } from "@supabase/supabase-js";
import { expect } from "vitest";
import { publishableKeys, signLegacyToken } from "../../local/keys.ts";
import { type Api, test } from "../support/api.ts";
import { exampleFile, examplePlan } from "../support/example.ts";

async function takeBackup({ call }: Api) {
  await call("PUT", "/v1/plans/v10.0", { json: examplePlan });
  const backup = await call("POST", "/v1/backups", { json: { version: "v10.0" }, wait: 60 });
  expect(backup.json).toMatchObject({ status: "succeeded" });
}

const migrate = ({ database }: Api) =>
  database.connect().unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql")).simple();

const readPlan = async ({ call }: Api, query = "") => {
  const plan = await call("GET", `/v1/backups/v10.0/rollback-plan${query}`);
  expect(plan).toMatchObject({ status: 200, json: { version: "v10.0", plan_hash: expect.any(String) } });
  return plan.json;
};

const rollBack = ({ call }: Api, json: object) => call("POST", "/v1/backups/v10.0/rollback", { json, wait: 60 });

const notes = async ({ database }: Api) => {
  const [row] = await database.sql`
    select to_regclass('public.coordinator_notes') is not null as old, to_regclass('public.curator_notes') is not null as new`;
  return row;
};

test("a diff tells nothing right after a backup, and after the migration what it changed and no row", async ({ freshApi }) => {
  const { call } = freshApi;
  await takeBackup(freshApi);
  const clean = await call("POST", "/v1/backups/v10.0/diff", { wait: 60 });
  expect(clean.json).toMatchObject({ kind: "diff", status: "succeeded", result: { is_clean: true, objects: [] } });
  const fresh = await call("GET", "/v1/backups/v10.0");
  expect(fresh.json).toMatchObject({ state: "fresh", last_diff: { is_clean: true } });
  expect(fresh.json.last_diff_at).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$/);

  await migrate(freshApi);
  const { json: { result } } = await call("POST", "/v1/backups/v10.0/diff", { json: { sample_keys: 5 }, wait: 60 });
  expect(result).toMatchObject({ is_clean: false, summary: { rows: { inserted: 0, updated: 0, deleted: 0 } } });
  expect(result.objects).toContainEqual(expect.objectContaining({
    changes: expect.arrayContaining(["renamed"]),
    kind: "table",
    object: expect.stringContaining("coordinator_notes"),
    now: expect.stringContaining("curator_notes"),
  }));
  const exact = await call("POST", "/v1/backups/v10.0/diff", { json: { exact: true }, wait: 60 });
  expect(exact.json.result).toMatchObject({ is_clean: false, summary: result.summary });
  for (const table of exact.json.result.tables) {
    expect(table).toMatchObject({ read: "values", values_read_because: null });
  }
  const stale = (await call("GET", "/v1/backups/v10.0")).json;
  expect(stale).toMatchObject({ state: "stale", last_diff: { is_clean: false, summary: result.summary } });
  expect((await call("GET", "/v1/backups")).json.backups).toMatchObject([{ state: "stale" }]);
});

test("a diff counts rows, tells keys when asked, and values only when asked for", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await takeBackup(freshApi);
  await migrate(freshApi);
  await database.sql.unsafe(`
    update public.profiles set tags = '{secret}' where id = md5('user 48')::uuid;
    delete from public.invite_codes where code = (select min(code) from public.invite_codes);`);
  const ask = async (json: object) => (await call("POST", "/v1/backups/v10.0/diff", { json, wait: 60 })).json;
  const profiles = ({ result }: { result: { tables: { table: string }[] } }) =>
    result.tables.find(({ table }) => table === "public.profiles");

  const counted = await ask({});
  expect(counted.result.summary.rows).toMatchObject({ updated: 1 });
  expect(counted.result.summary.rows.deleted).toBeGreaterThan(0);
  expect(profiles(counted)).toMatchObject({ inserted: 0, updated: 1, deleted: 0 });
  const [{ id }] = await database.sql<[{ id: string }]>`select md5('user 48')::uuid as id`;
  expect(JSON.stringify(counted.result)).not.toContain(id);
  const sampled = await ask({ sample_keys: 5 });
  expect(JSON.stringify(profiles(sampled))).toContain(id);
  expect(JSON.stringify(sampled.result)).not.toContain("secret");
  const told = await ask({ sample_keys: 5, include_values: true });
  expect(JSON.stringify(profiles(told))).toContain("secret");
});

test("the way back: read the plan, rehearse it, run it, and run it again", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await takeBackup(freshApi);
  await migrate(freshApi);
  const plan = await readPlan(freshApi);
  expect(plan).toMatchObject({ possible: true });
  expect(plan.statements.map(({ step }: { step: number }) => step))
    .toEqual(plan.statements.map((_: unknown, index: number) => index + 1));
  expect(plan.statements.map(({ statement }: { statement: string }) => statement).join(";\n"))
    .toMatch(/alter table public\.curator_notes rename to coordinator_notes/i);
  expect(await notes(freshApi)).toEqual({ old: false, new: true });

  const rehearsal = await rollBack(freshApi, { plan_hash: plan.plan_hash, rehearse: true });
  expect(rehearsal).toMatchObject({
    status: 200,
    json: { kind: "rollback", status: "succeeded", result: { rehearsed: true, catalog: { identical: true } } },
  });
  expect(rehearsal.json.result.statements).toHaveLength(plan.statements.length);
  expect(await notes(freshApi)).toEqual({ old: false, new: true });
  expect((await call("GET", "/v1/backups/v10.0")).json).toMatchObject({ state: "stale", rolled_back_at: null });

  const done = await rollBack(freshApi, { plan_hash: plan.plan_hash });
  expect(done.json).toMatchObject({ status: "succeeded", result: { rehearsed: false, no_op: false } });
  const { checklist } = done.json.result;
  expect(checklist.length).toBeGreaterThan(0);
  expect(checklist.filter(({ passed }: { passed: boolean }) => !passed)).toEqual([]);
  expect(await notes(freshApi)).toEqual({ old: true, new: false });
  expect((await call("GET", "/v1/backups/v10.0")).json).toMatchObject({
    state: "rolled_back",
    rolled_back_at: expect.any(String),
    rolled_back_by: "default",
  });
  expect((await call("POST", "/v1/backups/v10.0/diff", { wait: 60 })).json.result).toMatchObject({ is_clean: true });

  const nothing = await readPlan(freshApi);
  expect(nothing).toMatchObject({ possible: true, statements: [] });
  const again = await rollBack(freshApi, { plan_hash: nothing.plan_hash });
  expect(again.json).toMatchObject({ status: "succeeded", result: { no_op: true } });
  await database.sql`select migration_guard.assert_ready('v10.0')`;
});

test("a rollback of another plan than the one that holds is refused, and says what has changed", async ({ freshApi }) => {
  const { database } = freshApi;
  await takeBackup(freshApi);
  await migrate(freshApi);
  const wrong = await rollBack(freshApi, { plan_hash: "0".repeat(64) });
  expect(wrong.headers.get("content-type")).toBe("application/problem+json");
  const plan = await readPlan(freshApi);
  expect(wrong).toMatchObject({
    status: 409,
    json: { code: "plan_changed", plan_hash: plan.plan_hash, added: expect.any(Array), removed: expect.any(Array) },
  });

  await database.sql`create index moved on public.curator_notes (note_length)`;
  const moved = await rollBack(freshApi, { plan_hash: plan.plan_hash });
  expect(moved).toMatchObject({ status: 409, json: { code: "plan_changed" } });
  // The lists are long, and what they are is said before.
  expect(Object.keys(moved.json).slice(0, 6)).toEqual(["type", "title", "status", "code", "detail", "instance"]);
  expect(moved.json.plan_hash).not.toBe(plan.plan_hash);
  expect(JSON.stringify(moved.json.added)).toMatch(/drop index public\.moved/i);
  const otherOptions = await rollBack(freshApi, { plan_hash: moved.json.plan_hash, data: "restore" });
  expect(otherOptions).toMatchObject({ status: 409, json: { code: "plan_changed" } });
  expect(await notes(freshApi)).toEqual({ old: false, new: true });
});

test("what cannot be undone is said by the plan, and refuses the rollback", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await takeBackup(freshApi);
  await database.sql`alter type public.user_role add value 'trainee'`;
  await database
    .sql`update public.profiles set role = 'trainee' where id in (md5('user 33')::uuid, md5('user 44')::uuid)`;
  const plan = await readPlan(freshApi);
  expect(plan.possible).toBe(false);
  expect(plan.cannot_undo).toContainEqual(
    expect.objectContaining({ object: expect.stringContaining("user_role"), blocks: true }),
  );
  const refused = await rollBack(freshApi, { plan_hash: plan.plan_hash });
  expect(refused).toMatchObject({ status: 409, json: { code: "rollback_refused", cannot_undo: plan.cannot_undo } });

  const script = await call("GET", "/v1/backups/v10/rollback-plan", { headers: { accept: "application/sql" } });
  expect(script.text).toMatch(/^-- Bars the way: .*user_role/m);
  expect(script.text.split("\n").filter((line) => line !== "" && !line.startsWith("--"))).toEqual([]);
});

test("a rollback from a backup that is not whole fails before its first statement, and says what is not", async ({ freshApi }) => {
  const { database } = freshApi;
  await takeBackup(freshApi);
  await migrate(freshApi);
  const { plan_hash } = await readPlan(freshApi);
  await database.sql`delete from migration_backup_v10.invite_codes_backup`;
  expect((await rollBack(freshApi, { plan_hash })).json).toMatchObject({
    status: "failed",
    error: {
      code: "backup_damaged",
      message: expect.stringContaining("public.invite_codes"),
      contacts: examplePlan.contacts,
    },
  });
  expect(await notes(freshApi)).toEqual({ old: false, new: true });
});

test("a plan that somebody's lock holds up says so, and not that the database is away", async ({ freshApi }) => {
  const { call, database } = freshApi;
  await takeBackup(freshApi);
  const other = database.connect();
  await other`begin`;
  await other`lock table migration_backup_v10.profiles_backup in access exclusive mode`;
  expect((await call("GET", "/v1/backups/v10.0/rollback-plan?data=restore")).json).toMatchObject({
    status: 503,
    code: "database_timeout",
    detail: expect.stringContaining("Another session holds a lock"),
  });
  await other`rollback`;
  await readPlan(freshApi, "?data=restore");
});

test("the query of a plan and the body of a rollback mean the same", async ({ freshApi }) => {
  const { database } = freshApi;
  await takeBackup(freshApi);
  await migrate(freshApi);
  await database.sql`create table public.extra (id int)`;
  await database.sql`update public.profiles set tags = '{changed}' where id = md5('user 48')::uuid`;
  const plain = await readPlan(freshApi);
  const plan = await readPlan(freshApi, "?data=profiles:restore,invite_codes:keep&drop_new=extra&leave_deleted=true");
  expect(plan.plan_hash).not.toBe(plain.plan_hash);
  const options = {
    data: { profiles: "restore", invite_codes: "keep" },
    drop_new: ["extra"],
    leave_deleted: true,
  };
  const { plan_hash } = plan;
  const others = { ...options, leave_deleted: false };
  expect((await rollBack(freshApi, { plan_hash, ...others })).json).toMatchObject({ code: "plan_changed" });
  expect((await rollBack(freshApi, { plan_hash, rehearse: true })).json).toMatchObject({ status: "succeeded" });
  const done = await rollBack(freshApi, { plan_hash, ...options });
  expect(done.json).toMatchObject({ status: "succeeded" });
  const [row] = await database.sql`
    select to_regclass('public.extra') as extra, array_to_json(tags)::text as tags from public.profiles where id = md5('user 48')::uuid`;
  expect(row).toMatchObject({ extra: null });
  expect(row!.tags).not.toBe('["changed"]');
});

test.for(["application/sql", "text/plain"])(
  "the plan is a script for who accepts %s, and the script leads back",
  async (accept, { freshApi }) => {
    const { call, database } = freshApi;
    await takeBackup(freshApi);
    await migrate(freshApi);
    const script = await call("GET", "/v1/backups/v10.0/rollback-plan", { headers: { accept } });
    expect(script.headers.get("content-type")).toBe(`${accept}; charset=utf-8`);
    expect(script.text).toMatch(/^-- The way back from v10\.0, plan [0-9a-f]{64}\.\n/);
    await database.connect().unsafe(script.text).simple();
    expect((await call("POST", "/v1/backups/v10.0/diff", { wait: 60 })).json.result).toMatchObject({ is_clean: true });
  },
);

test("after a rollback a coordinator, a client and a stranger find over REST what they found before, with nothing restarted", async ({ freshApi }) => {
  const { database, stack } = freshApi;
  const signIn = async (account: number) => {
    const [{ sub }] = await database.sql<[{ sub: string }]>`select md5(${`user ${account}`})::uuid as sub`;
    const token = await signLegacyToken({ sub, role: "authenticated", exp: Math.floor(Date.now() / 1000) + 3600 });
    return createClient(stack.url, publishableKeys.default, {
      auth: { persistSession: false, autoRefreshToken: false },
      global: { headers: { Authorization: `Bearer ${token}` } },
    });
  };
  const people = [await signIn(1), await signIn(48), await signIn(9999)];
  const [coach] = await database.sql<{ id: string }[]>`select md5('user 1')::uuid as id`;
  const found = () =>
    Promise.all(people.map(async (person) => ({
      notes: (await person.from("coordinator_notes").select("id, coordinator_id, note").order("id")).data,
      profiles: (await person.from("profiles").select("id, role, coordinator_id").order("id")).data,
      isCoordinator: (await person.rpc("is_coordinator", { p_user_id: coach!.id })).data,
    })));
  const before = await found();
  expect(before.map(({ notes }) => notes?.length)).toEqual([expect.any(Number), 2, 0]);
  expect(before.map(({ isCoordinator }) => isCoordinator)).toEqual([true, true, true]);

  await takeBackup(freshApi);
  await migrate(freshApi);
  stack.rest.reloadSchema();
  expect((await people[0]!.from("curator_notes").select("id")).data).toHaveLength(before[0]!.notes!.length);
  const { plan_hash } = await readPlan(freshApi, "?data=restore");
  expect((await rollBack(freshApi, { plan_hash })).json).toMatchObject({ status: "succeeded" });
  await expect.poll(found).toEqual(before);
});
