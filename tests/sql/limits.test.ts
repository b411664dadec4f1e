import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob } from "../support/backup.ts";
import { test as base, type TestDatabase } from "../support/database.ts";

/** `test` with the limits that an installation begins with, and a backup `v1` in `example`. */
const test = base.extend<{ example: TestDatabase; database: TestDatabase }>({
  example: async ({ example }, use) => {
    await backUp(example.sql, "v1", { tables: ["profiles"] });
    await asInstalled(example.sql);
    await use(example);
  },
  database: async ({ database }, use) => {
    await asInstalled(database.sql);
    await use(database);
  },
});

const asInstalled = (sql: postgres.Sql) =>
  sql`update migration_guard.limits 
    set max_jobs = default, changes_per_minute = default, refusals_per_minute = default, anonymous_refusals_per_minute = default`;
const setLimits = (sql: postgres.Sql, limits: Record<string, number>) =>
  sql`update migration_guard.limits set ${sql(limits)}`;

const change = (sql: postgres.Sql, actor = "alice", name = "k") =>
  sql`select migration_guard_api.put_key(${name}, 'viewer', ${actor})`;
const admit = async (sql: postgres.Sql, actor = "alice") =>
  (await sql<[{ role: string; admission: string }]>`select * from migration_guard_api.admit_change(${actor})`)[0];
const counted = async (sql: postgres.Sql, actor = "alice") =>
  (await sql`select from migration_guard.changing_requests where actor = ${actor}`).length;
/** Has it be so many seconds later for all that was counted. */
const letPass = (sql: postgres.Sql, seconds: number) =>
  sql`update migration_guard.changing_requests set at = at - make_interval(secs => ${seconds})`;
const verifyBackup = (sql: postgres.Sql, actor = "alice", key: string | null = null) =>
  sql`select (migration_guard_api.verify_backup('v1', ${actor}, idempotency_key => ${key})).id`;
const cancelOne = (sql: postgres.Sql, actor = "alice") =>
  sql`select migration_guard_api.cancel_job((
    select id from migration_guard.jobs where status = 'queued' and actor = ${actor} limit 1), ${actor})`;

const rateLimited = { code: "MG031" };
const tooManyJobs = { code: "MG032" };

/** The error that a call is refused with, and the seconds that it tells to wait. */
async function refusal(call: Promise<unknown>): Promise<{ code: string; seconds: number }> {
  const error = await call.then(() => {
    throw new Error("It was let through.");
  }, (error) => error);
  if (!error.detail) throw error;
  return { code: error.code, seconds: JSON.parse(error.detail).retry_after_seconds };
}

// Changes

test("a key may change something sixty times a minute, and no other key is kept from it", async ({ database: { sql } }) => {
  for (let i = 1; i <= 60; i++) await change(sql, "alice", `key_${i}`);
  await expect(change(sql, "alice", "key_61")).rejects.toMatchObject(rateLimited);
  expect(await sql`select from migration_guard.key_roles where updated_by = 'alice'`).toHaveLength(60);
  await change(sql, "bob");
  await expect(admit(sql)).rejects.toMatchObject(rateLimited);
  expect((await admit(sql, "bob")).role).toBe("admin");
});

test("whoever waits for as long as is said is let through, as often as has become free", async ({ database: { sql } }) => {
  await setLimits(sql, { changes_per_minute: 3 });
  await sql`
    insert into migration_guard.changing_requests (actor, at, is_spent)
    select 'alice', clock_timestamp() - make_interval(secs => s), true from unnest('{10,25,40}'::int[]) as s`;
  const { code, seconds } = await refusal(change(sql));
  expect(code).toBe(rateLimited.code);
  expect(seconds).toBeGreaterThan(0);
  expect(seconds).toBeLessThanOrEqual(20);
  await letPass(sql, seconds);
  await change(sql);
  const next = await refusal(change(sql));
  expect(next.seconds).toBeGreaterThan(0);
  expect(next.seconds).toBeLessThanOrEqual(15);
  // What is refused is not counted: who asks again and again is let through nevertheless.
  await letPass(sql, next.seconds);
  await change(sql);
});

test("each function of the API that changes something is refused when the key has no change left", async ({ database: { sql } }) => {
  await setLimits(sql, { changes_per_minute: 1 });
  await admit(sql);
  const functions = await sql<{ name: string; args: string[] }[]>`
    select p.proname as name, p.proargnames[1:p.pronargs] as args from pg_proc as p
    where p.pronamespace = 'migration_guard_api'::regnamespace and p.provolatile = 'v' and 'actor' = any (p.proargnames[1:p.pronargs])`;
  const outcomes = new Map<string, string>();
  for (const { name, args } of functions) {
    const values = args.map((arg) => `${arg} => ${arg === "actor" ? "'alice'" : "null"}`).join(", ");
    const call = sql.begin(async (transaction) => {
      await transaction.unsafe(`select migration_guard_api.${name}(${values})`);
      throw { code: "done" };
    });
    outcomes.set(name, await call.catch(({ code }) => code));
  }
  const passed = [...outcomes].filter(([, code]) => code !== rateLimited.code).map(([name]) => name);
  expect(passed.sort()).toEqual([
    "cancel_job",
    "count_refusals",
    "get_audit_head",
    "get_job",
    "list_audit",
    "list_jobs",
    "plan_rollback",
    "record_refusal",
    "verify_audit",
  ]);
  expect(outcomes.size - passed.length).toBeGreaterThan(10);
});

test("what reads is not counted, though the trail tells of it: rollback plans, and values of rows", async ({ example: { sql } }) => {
  await setLimits(sql, { changes_per_minute: 1 });
  for (let i = 0; i < 3; i++) await sql`select migration_guard_api.plan_rollback('v1', '{}', 'alice')`;
  await sql`select migration_guard_api.list_keys('{}', 'alice')`;
  await sql`select migration_guard.enqueue_diff('v1', 'bob', null, 1, true)`;
  await sql`call migration_guard.work()`.simple();
  const { id } = await lastJob(sql);
  for (let i = 0; i < 3; i++) await sql`select migration_guard_api.get_job(${id}, 'alice')`;
  expect(await sql`select action from migration_guard.audit_log where actor = 'alice' order by id`).toEqual(
    [...Array.from({ length: 3 }, () => ({ action: "rollback_plan" })), { action: "diff.values.read" }],
  );
  expect(await counted(sql)).toBe(0);
  await sql`select migration_guard_api.plan_cleanup('v1', 'alice')`;
  expect(await counted(sql)).toBe(1);
});

test("a request that was admitted is counted once, by the key that it was admitted for, whatever becomes of it", async ({ database: { sql } }) => {
  const as = async (admission: string, call: (sql: postgres.Sql) => Promise<unknown>) => {
    await sql`select set_config('request.headers', ${
      JSON.stringify({ "x-migration-guard-admission": admission })
    }, false)`;
    await call(sql).finally(() => sql`select set_config('request.headers', '', false)`);
  };
  const { admission } = await admit(sql);
  expect(await counted(sql)).toBe(1);
  await expect(as(admission, (sql) => sql`select migration_guard_api.delete_key('nobody', 'alice')`)).rejects
    .toMatchObject({ code: "MG029" });
  expect(await counted(sql)).toBe(1);
  await as(admission, (sql) => change(sql));
  expect(await counted(sql)).toBe(1);
  // It is spent now.
  await as(admission, (sql) => change(sql));
  expect(await counted(sql)).toBe(2);
  await as((await admit(sql, "bob")).admission, (sql) => change(sql));
  expect(await counted(sql)).toBe(3);
  await as("nonsense", (sql) => change(sql));
  expect(await counted(sql)).toBe(4);

  // An admitted one is let through, though it was the last.
  await setLimits(sql, { changes_per_minute: 5 });
  const last = await admit(sql);
  await expect(change(sql)).rejects.toMatchObject(rateLimited);
  await as(last.admission, (sql) => change(sql));
});

test("an admission is good for ninety seconds, so that a key cannot lay up many", async ({ database: { sql } }) => {
  const use = async (admission: string, name: string) => {
    await sql`select set_config('request.headers', ${
      JSON.stringify({ "x-migration-guard-admission": admission })
    }, false)`;
    await change(sql, "alice", name).finally(() => sql`select set_config('request.headers', '', false)`);
  };
  const [old, young] = [await admit(sql), await admit(sql)];
  await sql`update migration_guard.changing_requests set at = at - interval '91 seconds' where id = ${old.admission}`;
  await sql`update migration_guard.changing_requests set at = at - interval '80 seconds' where id = ${young.admission}`;
  await setLimits(sql, { changes_per_minute: 1 });
  await use(old.admission, "first");
  expect(await counted(sql)).toBe(3);
  await expect(use(old.admission, "second")).rejects.toMatchObject(rateLimited);
  await use(young.admission, "third");
});

test("a key that has no change left can cancel its job, which the trail tells once", async ({ example: { sql } }) => {
  await setLimits(sql, { changes_per_minute: 1 });
  await verifyBackup(sql);
  await expect(change(sql)).rejects.toMatchObject(rateLimited);
  const { id } = await lastJob(sql);
  await cancelOne(sql);
  expect((await lastJob(sql)).status).toBe("cancelled");
  await expect(sql`select migration_guard_api.cancel_job(${id}, 'alice')`).rejects.toMatchObject({ code: "MG025" });
  expect(await counted(sql)).toBe(1);
  expect(await sql`select job_id from migration_guard.audit_log where action = 'cancel'`).toEqual([{ job_id: id }]);
});

test("a session that holds the advisory locks of the limits keeps nobody from a change", async ({ example }) => {
  const stranger = example.connect("authenticator");
  for (const purpose of ["changes", "jobs"]) {
    await stranger`
      select pg_advisory_lock(hashtextextended(jsonb_build_array(${`migration_guard.${purpose}`}::text, 'alice')::text, 0))`;
  }
  const { sql } = example;
  await sql`set lock_timeout = '5s'`;
  await change(sql);
  await verifyBackup(sql);
  expect(await counted(sql)).toBe(2);
});

test("of a hundred changes at once, sixty are let through", async ({ database }) => {
  const many = database.connect("postgres", 20);
  const outcomes = await Promise.allSettled(
    Array.from({ length: 100 }, (_, i) => i % 2 ? change(many, "alice", `key_${i}`) : admit(many)),
  );
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(60);
  for (const outcome of outcomes) {
    if (outcome.status === "rejected") expect(outcome.reason).toMatchObject(rateLimited);
  }
  expect(await counted(database.sql)).toBe(60);
});

test("whoever asks while another is being let in waits, and is refused when that was the last", async ({ database }) => {
  const { sql } = database;
  const others = [database.connect(), database.connect()];
  await setLimits(sql, { changes_per_minute: 1 });
  const { asked } = await sql.begin(async (open) => {
    await admit(open as unknown as postgres.Sql);
    const asked = [admit(others[0]!), change(others[1]!)].map((call) => Promise.allSettled([call]));
    await expect.poll(() => open`select from pg_locks where not granted`, { timeout: 30_000 })
      .toHaveLength(2);
    return { asked };
  });
  for (const outcome of await Promise.all(asked)) {
    expect(outcome).toMatchObject([{ status: "rejected", reason: rateLimited }]);
  }
});

test("a call that takes long keeps no other change of its key waiting", async ({ example }) => {
  const { sql } = example;
  const lock = example.connect();
  const long = example.connect();
  // The same request with the same key waits for the first one.
  await lock`select pg_advisory_lock(hashtextextended(jsonb_build_array('migration_guard', 'alice', 'again')::text, 0))`;
  const waiting = verifyBackup(long, "alice", "again").then(() => "done");
  await expect.poll(() => sql`select from pg_locks where locktype = 'advisory' and not granted`, { timeout: 60_000 })
    .toHaveLength(1);
  await sql`set lock_timeout = '5s'`;
  await admit(sql);
  await change(sql);
  await lock`select pg_advisory_unlock_all()`;
  expect(await waiting).toBe("done");
  expect(await counted(sql)).toBe(3);
});

test("what was counted is forgotten after ten minutes, whoever comes then", async ({ database: { sql } }) => {
  for (let i = 0; i < 5; i++) await admit(sql, `key_${i}`);
  await letPass(sql, 601);
  await admit(sql);
  expect(await sql`select actor from migration_guard.changing_requests`).toEqual([{ actor: "alice" }]);
});

// Jobs

test("a key may have twenty jobs under way, and no other key is kept from its own", async ({ example: { sql } }) => {
  for (let i = 1; i <= 20; i++) await verifyBackup(sql, "alice", `${i}`);
  const { code, seconds } = await refusal(verifyBackup(sql));
  expect(code).toBe(tooManyJobs.code);
  expect(seconds).toBeGreaterThan(0);
  await verifyBackup(sql, "bob");
  // A request that comes again asks for no new job.
  await verifyBackup(sql, "alice", "7");
  await cancelOne(sql);
  await verifyBackup(sql);
  await expect(verifyBackup(sql)).rejects.toMatchObject(tooManyJobs);
  await sql`call migration_guard.work()`.simple();
  await verifyBackup(sql);
});

test("of fifty jobs at once, twenty are queued", async ({ example }) => {
  const many = example.connect("postgres", 20);
  const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => verifyBackup(many)));
  const refused = outcomes.filter((outcome) => outcome.status === "rejected");
  expect(refused).toHaveLength(30);
  for (const { reason } of refused) expect(reason).toMatchObject(tooManyJobs);
  expect(await example.sql`select from migration_guard.jobs where status = 'queued'`).toHaveLength(20);
});

test("what the product asks for by itself is not limited", async ({ example: { sql } }) => {
  await backUp(sql, "v2", { tables: ["profiles"] });
  await setLimits(sql, { max_jobs: 1 });
  await sql`update migration_guard.backups set created_at = now() - interval '1 day'`;
  await sql`update migration_guard.jobs set created_at = now() - interval '1 day'`;
  for (const version of ["v1", "v2"]) {
    await sql`select migration_guard.enqueue_due_verification(${version}, '1 hour')`;
  }
  expect(await sql`select actor, version from migration_guard.jobs where status = 'queued' order by version`).toEqual([
    { actor: "pg_cron", version: "v1.0" },
    { actor: "pg_cron", version: "v2.0" },
  ]);
  await sql`
    update migration_guard.backups
    set confirmed_at = now(), confirmed_by = 'alice', trashed_at = now(), trashed_by = 'alice', purge_after = now(),
      schema_name = migration_guard.trash_schema_name(version, id)`;
  await sql`select migration_guard.enqueue_due_purges()`;
  expect(await sql`select actor, version from migration_guard.jobs where kind = 'purge' order by version`).toEqual([
    { actor: "migration_guard", version: "v1.0" },
    { actor: "migration_guard", version: "v2.0" },
  ]);
});

// The limits themselves

test("the owner changes a limit, which counts at once, and none can be less than one", async ({ example: { sql } }) => {
  await setLimits(sql, { changes_per_minute: 1, max_jobs: 1 });
  await verifyBackup(sql);
  await expect(change(sql)).rejects.toMatchObject(rateLimited);
  await setLimits(sql, { changes_per_minute: 3 });
  await change(sql);
  await expect(verifyBackup(sql)).rejects.toMatchObject(tooManyJobs);
  await setLimits(sql, { max_jobs: 2 });
  await verifyBackup(sql);
  for (const limit of ["max_jobs", "changes_per_minute", "refusals_per_minute", "anonymous_refusals_per_minute"]) {
    await expect(setLimits(sql, { [limit]: 0 })).rejects.toMatchObject({ code: "23514" });
  }
  await expect(sql`insert into migration_guard.limits (is_the_row) values (false)`).rejects.toMatchObject({
    code: "23514",
  });
});

test("where somebody has removed the limits, nothing is changed", async ({ example: { sql } }) => {
  await sql`delete from migration_guard.limits`;
  await expect(change(sql)).rejects.toMatchObject({ code: "P0002" });
  await expect(admit(sql)).rejects.toMatchObject({ code: "P0002" });
  await expect(sql`select migration_guard.enqueue_verification('v1', 'alice')`).rejects.toMatchObject({
    code: "P0002",
  });
});

// What the trail tells of refusals

const refuse = async (sql: postgres.Sql, status: number, actor: string | null = null) =>
  (await sql<[{ seconds: number | null }]>`
    select migration_guard_api.record_refusal('request', ${actor}, null, null, ${sql.json({ status })}) as seconds`)[0]
    .seconds;
const trail = async (sql: postgres.Sql) =>
  (await sql<{ actor: string | null; action: string; parameters: Record<string, unknown> }[]>`
    select actor, action, parameters from migration_guard_api.list_audit('default', 200) order by id`)
    .map(({ actor, action, parameters: { since: _, ...parameters } }) => ({ actor, action, ...parameters }));
const endMinute = (sql: postgres.Sql) =>
  sql`update migration_guard.refusal_counts set since = since - interval '1 minute'`;

test("so many refusals a minute are told one by one, of the others the number when the minute is over", async ({ database: { sql } }) => {
  await setLimits(sql, { anonymous_refusals_per_minute: 3 });
  const told = { action: "request" };
  const answers = [];
  for (let i = 0; i < 5; i++) answers.push(await refuse(sql, 401));
  expect(answers.slice(0, 3)).toEqual([null, null, null]);
  for (const seconds of answers.slice(3)) {
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(60);
  }
  await sql`select migration_guard_api.count_refusals('401', 40)`;
  // Neither another status nor a key is kept from being told of.
  expect(await refuse(sql, 403)).toBeNull();
  expect(await refuse(sql, 401, "alice")).toBeNull();
  const first = [
    ...Array.from({ length: 3 }, () => ({ ...told, actor: null, status: 401 })),
    { ...told, actor: null, status: 403 },
    { ...told, actor: "alice", status: 401 },
  ];
  expect(await trail(sql)).toEqual(first);
  await endMinute(sql);
  const left = { actor: null, action: "refusals.left_out", status: "401", times: 42 };
  expect(await trail(sql)).toEqual([...first, left]);
  expect(await refuse(sql, 401)).toBeNull();
  expect(await trail(sql)).toEqual([...first, left, { ...told, actor: null, status: 401 }]);
  const [{ intact }] = await sql<[{ intact: boolean }]>`select intact from migration_guard_api.verify_audit('default')`;
  expect(intact).toBe(true);
});

test("a minute that is over is told by whoever is refused next", async ({ database: { sql } }) => {
  await setLimits(sql, { refusals_per_minute: 1 });
  for (let i = 0; i < 4; i++) await refuse(sql, 403, "alice");
  await endMinute(sql);
  expect(await refuse(sql, 403, "alice")).toBeNull();
  expect(await sql`select action, parameters ->> 'times' as times from migration_guard.audit_log order by id`).toEqual([
    { action: "request", times: null },
    { action: "refusals.left_out", times: "3" },
    { action: "request", times: null },
  ]);
});

test("that a key is over its limit is told once a minute", async ({ database: { sql } }) => {
  for (let i = 0; i < 10; i++) await refuse(sql, 429, "alice");
  await refuse(sql, 429, "bob");
  expect(await trail(sql)).toEqual([
    { actor: "alice", action: "request", status: 429 },
    { actor: "bob", action: "request", status: 429 },
  ]);
});

test("none is lost of two hundred refusals at once", async ({ database }) => {
  const many = database.connect("postgres", 20);
  await Promise.all(Array.from({ length: 200 }, () => refuse(many, 401)));
  await endMinute(database.sql);
  const all = await trail(database.sql);
  expect(all.filter(({ action }) => action === "request")).toHaveLength(6);
  expect(all.filter(({ action }) => action === "refusals.left_out")).toMatchObject([{ times: 194 }]);
});

test("a refusal is of a form that the function gives it, whoever calls", async ({ database: { sql } }) => {
  const record = (action: string, actor: string | null, parameters: Record<string, string | number>) =>
    sql`select migration_guard_api.record_refusal(${action}, ${actor}, null, null, ${sql.json(parameters)})`;
  const invalid = { code: "MG003" };
  for (
    const call of [
      () => record("request", "alice", {}),
      () => record("request", "alice", { status: 200 }),
      () => record("request", "alice", { status: "any" }),
      () => record("a".repeat(64), "alice", { status: 403 }),
      () => record("Key Put", "alice", { status: 403 }),
      () => record("", "alice", { status: 403 }),
      () => record("request", "a".repeat(201), { status: 403 }),
      () => record("request", "alice", { status: 403, more: "x".repeat(4096) }),
      () => sql`select migration_guard_api.record_refusal('request', 'alice', parameters => '[403]')`,
      () => sql`select migration_guard_api.record_refusal('request', 'alice', parameters => null)`,
      () => sql`select migration_guard_api.count_refusals('any', 1)`,
      () => sql`select migration_guard_api.count_refusals(null, 1)`,
      () => sql`select migration_guard_api.count_refusals('401', 1, ${"a".repeat(201)})`,
    ]
  ) await expect(call(), call.toString()).rejects.toMatchObject(invalid);
  expect(await trail(sql)).toEqual([]);
  await sql`select migration_guard_api.count_refusals('401', ${2 ** 31 - 1})`;
  await sql`select migration_guard_api.count_refusals('401', ${-5})`;
  expect(await sql`select left_out::int from migration_guard.refusal_counts`).toEqual([{ left_out: 100_000 }]);
  await record("request", "a".repeat(200), { status: 403, more: "x".repeat(4000) });
  expect(await trail(sql)).toHaveLength(1);
});

test("whoever says another name each time adds no more to the trail for that, and keeps nobody from being told of", async ({ database: { sql } }) => {
  await setLimits(sql, { refusals_per_minute: 2 });
  for (let i = 0; i < 300; i++) await refuse(sql, i % 2 ? 403 : 409, `key ${i}`);
  const counts = async () =>
    (await sql<[{ names: number; told: number; all: number }]>`
      select count(*)::int as names, sum(told)::int as told, sum(told + left_out)::int as all from migration_guard.refusal_counts`)[
      0
    ];
  const { names, told, all } = await counts();
  expect(told).toBe(20);
  expect(names).toBeLessThanOrEqual(202);
  expect(all).toBe(300);
  expect(await refuse(sql, 401)).toBeNull();
  // The minute after is another one.
  await endMinute(sql);
  expect(await refuse(sql, 403, "alice")).toBeNull();
  const told_after = await sql<{ times: number }[]>`
    select (parameters ->> 'times')::int as times from migration_guard.audit_log where action = 'refusals.left_out'`;
  expect(told_after.reduce((sum, { times }) => sum + times, 0)).toBe(280);
});
