import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, verify, work } from "../support/backup.ts";
import { blocked, deleteBackup, type Guard, makeRemovable, planCleanup, schema } from "../support/cleanup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";
import { rollBack } from "../support/rollback.ts";

const exists = async (sql: postgres.Sql, name = schema) =>
  (await sql`select to_regnamespace(${name}) is not null as exists`)[0]!.exists;

/** The request must be refused for exactly this guard. Returns what the guard says. */
async function expectRefused(sql: postgres.Sql, request: Promise<unknown>, ...guards: string[]): Promise<string> {
  const error = await request.then(() => undefined, (error) => error);
  expect(error).toMatchObject({ code: "MG013" });
  const all: Guard[] = JSON.parse(error.detail).guards;
  expect(blocked(all).sort()).toEqual(guards.sort());
  expect(all).toHaveLength(8);
  for (const guard of guards) expect(error.message).toContain(guard);
  expect(await exists(sql)).toBe(true);
  expect(await sql`select from migration_guard.jobs where kind = 'cleanup' and finished_at is null`).toHaveLength(0);
  expect(await sql`select from migration_guard.backups where removed_at is not null`).toHaveLength(0);
  return all.find(({ guard }) => guard === guards[0])!.details;
}

/** A cleanup is accepted, then something changes, and the job must refuse for exactly these guards and drop nothing. */
async function expectJobRefuses({ sql }: TestDatabase, change: () => Promise<unknown>, ...guards: string[]) {
  await makeRemovable(sql);
  const before = await contents(sql);
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await change();
  await work(sql);
  const job = await lastJob(sql);
  expect(job).toMatchObject({ status: "failed", error: { code: "cleanup_refused" } });
  expect(blocked((job.error as unknown as { guards: Guard[] }).guards).sort()).toEqual(guards.sort());
  expect(await contents(sql)).toEqual(expect.arrayContaining(before));
  expect(await sql`select removed_at from migration_guard.backups`).toEqual([{ removed_at: null }]);
}

/** Names of everything in the backup's schema. */
const contents = async (sql: postgres.Sql) => {
  const rows = await sql<{ identity: string }[]>`
    select c.relname as identity from pg_class as c where c.relnamespace = to_regnamespace(${schema})
    union all
    select p.proname || '()' from pg_proc as p where p.pronamespace = to_regnamespace(${schema})`;
  return rows.map(({ identity }) => identity);
};

test("with every guard passed the backup goes, its record stays, and the version can be backed up again", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  const plan = await planCleanup(sql);
  expect(plan.schema).toBe(schema);
  expect(blocked(plan.guards)).toEqual([]);

  const [queued] = await deleteBackup(sql, plan.token);
  expect(queued).toMatchObject({ kind: "cleanup", version: "v10.0", status: "queued", actor: "alice" });
  expect(await exists(sql)).toBe(true);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded", result: { schema, removed: true } });

  expect(await exists(sql)).toBe(false);
  const [record] = await sql`select removed_at, removed_by, confirmed_by from migration_guard.backups`;
  expect(record).toMatchObject({ removed_at: expect.any(Date), removed_by: "alice", confirmed_by: "alice" });
  await expect(sql`select migration_guard_api.get_backup('v10')`).rejects.toMatchObject({ code: "MG005" });
  expect(await sql`select version from migration_guard_api.list_backups()`).toEqual([]);

  await backUp(sql, "v10", examplePlan);
  expect(await sql`select state from migration_guard_api.list_backups()`).toEqual([{ state: "fresh" }]);
  expect(await sql`select from migration_guard.backups`).toHaveLength(2);
});

test("the live tables and other backups are left alone", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await backUp(sql, "v10.1", examplePlan);
  const rows = () => sql`select count(*)::int from public.profiles`;
  const before = await rows();
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);
  expect(await exists(sql)).toBe(false);
  expect(await rows()).toEqual(before);
  expect([...(await verify(sql, "v10.1")).values()].filter(({ status }) => status !== "OK")).toEqual([]);
});

test("a version without backup has nothing to clean up", async ({ example: { sql } }) => {
  await expect(planCleanup(sql)).rejects.toMatchObject({ code: "MG005" });
  await expect(deleteBackup(sql, "token")).rejects.toMatchObject({ code: "MG005" });
});

// Each guard by itself, when the cleanup is asked for. `change` runs when all the others pass.

const guards: { title: string; change: string; guard: string; says: RegExp }[] = [
  {
    title: "whose metadata is not there",
    change: `drop table ${schema}.backup_metadata`,
    guard: "schema_is_a_backup",
    says: /does not say that it is backup/,
  },
  {
    title: "that is not the registered one",
    change: `update ${schema}.backup_metadata set backup_id = gen_random_uuid()`,
    guard: "schema_is_a_backup",
    says: /does not say that it is backup/,
  },
  {
    title: "that holds a table of somebody's own",
    change: `create table ${schema}.my_notes as select 'precious' as note`,
    guard: "schema_is_a_backup",
    says: /table migration_backup_v10\.my_notes/,
  },
  {
    title: "that holds a view of somebody's own",
    change: `create view ${schema}.my_view as select * from ${schema}.profiles_backup`,
    guard: "schema_is_a_backup",
    says: /view migration_backup_v10\.my_view/,
  },
  {
    title: "that holds a function of somebody's own",
    change: `create function ${schema}.my_function() returns int language sql as 'select 1'`,
    guard: "schema_is_a_backup",
    says: /function migration_backup_v10\.my_function\(\)/,
  },
  {
    title: "that holds a type and a sequence of somebody's own",
    change: `create type ${schema}.my_type as enum ('a'); create sequence ${schema}.my_sequence`,
    guard: "schema_is_a_backup",
    says: /sequence migration_backup_v10\.my_sequence; type migration_backup_v10\.my_type/,
  },
  {
    title: "with a verification in the queue",
    change: `select migration_guard_api.verify_backup('v10', 'bob')`,
    guard: "no_job_under_way",
    says: /\(verify\) is queued/,
  },
  {
    title: "that was never verified",
    change: `update migration_guard.backups set verified_ok = null, verified_at = null`,
    guard: "verified_recently",
    says: /never verified/,
  },
  {
    title: "whose last verification failed",
    change: `update migration_guard.backups set verified_ok = false`,
    guard: "verified_recently",
    says: /failed/,
  },
  {
    title: "that was verified longer than a day ago",
    change: `update migration_guard.backups set verified_at = now() - interval '24 hours 1 second'`,
    guard: "verified_recently",
    says: /24 hours/,
  },
  {
    title: "whose retention is not over",
    change: `update migration_guard.backups set confirmed_at = now() - interval '13 days 23 hours 59 minutes'`,
    guard: "retention_passed",
    says: /14 days/,
  },
];

test.for(guards.map((guard) => [guard.title, guard] as const))(
  "a backup %s is not cleaned up, for that reason alone",
  async ([, { change, guard, says }], { example: { sql } }) => {
    await makeRemovable(sql);
    await sql.unsafe(change);
    const { guards, token } = await planCleanup(sql);
    expect(blocked(guards)).toEqual([guard]);
    expect(guards.find((found) => found.guard === guard)!.details).toMatch(says);
    expect(await expectRefused(sql, deleteBackup(sql, token), guard)).toMatch(says);
  },
);

test("a backup whose migration nobody signed off is not cleaned up, however old it is", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await sql`
    update migration_guard.backups
    set created_at = now() - interval '10 years', confirmed_at = null, confirmed_by = null, confirmation_note = null`;
  const { token } = await planCleanup(sql);
  await expectRefused(sql, deleteBackup(sql, token), "migration_confirmed", "retention_passed");
});

test("the retention is the one in the plan that the backup was taken by", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await sql`update migration_guard.backups set confirmed_at = now() - interval '2 days'`;
  await sql`select migration_guard_api.put_plan('v10', ${sql.json({ ...examplePlan, retention_days: 1 })}, 'alice')`;
  await expectRefused(sql, deleteBackup(sql, (await planCleanup(sql)).token), "retention_passed");
});

test("a verification that failed blocks, and one that passes again unblocks", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await sql.unsafe(`update ${schema}.profiles_backup set email = email || 'x'`);
  await verify(sql, "v10");
  await expectRefused(sql, deleteBackup(sql, (await planCleanup(sql)).token), "verified_recently");
  await sql.unsafe(`update ${schema}.profiles_backup set email = left(email, -1)`);
  await verify(sql, "v10");
  await deleteBackup(sql, (await planCleanup(sql)).token);
});

// What depends on a backup

const dependents: { title: string; create: string; use: string }[] = [
  {
    title: "a view",
    create: `create view public.dependent as select email from ${schema}.profiles_backup`,
    use: `select * from public.dependent`,
  },
  {
    title: "a view of a catalog view",
    create: `create view public.dependent as select * from ${schema}.policies_backup`,
    use: `select * from public.dependent`,
  },
  {
    title: "a partitioned table that a copy was attached to",
    create: `create table public.dependent (like ${schema}.profiles_backup) partition by list (email);
      alter table public.dependent attach partition ${schema}.profiles_backup default`,
    use: `select 1 / count(*) from public.dependent`,
  },
  {
    title: "a publication",
    create: `create publication dependent for table ${schema}.profiles_backup`,
    use: `alter publication dependent set (publish = 'insert')`,
  },
  {
    title: "a materialized view",
    create: `create materialized view public.dependent as select email from ${schema}.profiles_backup`,
    use: `refresh materialized view public.dependent`,
  },
  {
    title: "a foreign key",
    create: `
      alter table ${schema}.invite_codes_backup add unique (id);
      create table public.dependent (code uuid references ${schema}.invite_codes_backup (id))`,
    use: `insert into public.dependent select id from ${schema}.invite_codes_backup`,
  },
  {
    title: "a function whose body is bound",
    create:
      `create function public.dependent() returns bigint language sql begin atomic select count(*) from ${schema}.profiles_backup; end`,
    use: `select public.dependent()`,
  },
  {
    title: "a function that takes one of its rows",
    create:
      `create function public.dependent(one ${schema}.profiles_backup) returns text language sql as 'select one.email'`,
    use: `select public.dependent(p) from ${schema}.profiles_backup as p`,
  },
  {
    title: "a column of a row type",
    create: `create table public.dependent (kept ${schema}.profiles_backup)`,
    use: `insert into public.dependent select p from ${schema}.profiles_backup as p`,
  },
  {
    title: "a column of an array of a row type",
    create: `create table public.dependent (kept ${schema}.profiles_backup[])`,
    use: `insert into public.dependent select array_agg(p) from ${schema}.profiles_backup as p`,
  },
  {
    title: "a policy",
    create:
      `create policy dependent on public.daily_logs using (client_id in (select id from ${schema}.profiles_backup))`,
    use: `alter policy dependent on public.daily_logs to authenticated`,
  },
  {
    title: "a default that calls one of its functions",
    create: `create table public.dependent (id int, manifest text default ${schema}.compute_manifest())`,
    use: `insert into public.dependent (id) values (1)`,
  },
  {
    title: "a table that inherits",
    create: `create table public.dependent () inherits (${schema}.invite_codes_backup)`,
    use: `select * from public.dependent`,
  },
];

test.for(dependents.map((dependent) => [dependent.title, dependent] as const))(
  "%s elsewhere that depends on a backup blocks the request and the cleanup itself, and keeps working",
  async ([, { create, use }], { example }) => {
    const { sql } = example;
    await expectJobRefuses(example, () => sql.unsafe(create), "nothing_depends_on_it");
    const { token } = await planCleanup(sql);
    expect(await expectRefused(sql, deleteBackup(sql, token), "nothing_depends_on_it")).toMatch(/dependent/);
    await sql.unsafe(use);
  },
);

// The guards again, where it happens

const changesInBetween: [string, string, string[]][] = [
  ["a table of somebody's own", `create table ${schema}.my_notes as select 'precious' as note`, ["schema_is_a_backup"]],
  [
    "a function of somebody's own",
    `create function ${schema}.my_function() returns int language sql as 'select 1'`,
    ["schema_is_a_backup"],
  ],
  ["a failed verification", `update migration_guard.backups set verified_ok = false`, ["verified_recently"]],
  [
    "a verification that is a day old by now",
    `update migration_guard.backups set verified_at = now() - interval '25 hours'`,
    ["verified_recently"],
  ],
  [
    "a sign-off that was taken back",
    `update migration_guard.backups set confirmed_at = null, confirmed_by = null`,
    ["migration_confirmed", "retention_passed"],
  ],
  ["a later sign-off", `update migration_guard.backups set confirmed_at = now() - interval '1 day'`, [
    "retention_passed",
  ]],
  ["another backup's metadata", `update ${schema}.backup_metadata set backup_id = gen_random_uuid()`, [
    "schema_is_a_backup",
  ]],
  [
    "a job that confirms another name",
    `update migration_guard.jobs set parameters = '{"confirm": "public"}' where kind = 'cleanup'`,
    [
      "confirm_names_schema",
    ],
  ],
  ["a job that spent no token", `update migration_guard.cleanup_tokens set spent_by = null`, ["token_is_valid"]],
];

test.for(changesInBetween)(
  "%s between the request and the cleanup keeps the backup",
  async ([, change, guards], { example }) => {
    await expectJobRefuses(example, () => example.sql.unsafe(change), ...guards);
  },
);

test("a verification that is asked for after the cleanup was accepted keeps the backup, and runs", async ({ example }) => {
  const { sql } = example;
  await makeRemovable(sql);
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await sql`select migration_guard_api.verify_backup('v10', 'bob')`;
  await work(sql);
  expect(
    await sql`select kind, status, error ->> 'code' as code from migration_guard.jobs order by number desc limit 2`,
  )
    .toEqual([
      { kind: "verify", status: "succeeded", code: null },
      { kind: "cleanup", status: "failed", code: "cleanup_refused" },
    ]);
  expect(await exists(sql)).toBe(true);
});

test("a schema that was dropped by hand after the request is a refusal, not a broken job", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await sql.unsafe(`drop schema ${schema} cascade`);
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "cleanup_refused" } });
});

test("a cleanup that was refused can be asked for again, with a new token", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  const { token } = await planCleanup(sql);
  await deleteBackup(sql, token);
  await sql.unsafe(`create view public.dependent as select * from ${schema}.profiles_backup`);
  await work(sql);
  await sql`drop view public.dependent`;
  await expect(deleteBackup(sql, token)).rejects.toMatchObject({ code: "MG013" });
  await deleteBackup(sql, (await planCleanup(sql)).token);
  await work(sql);
  expect(await exists(sql)).toBe(false);
});

// What a request must bring

test.for([[null], [""], ["public"], ["v10"], ["MIGRATION_BACKUP_V10"], ["migration_backup_v10 "], [
  "migration_backup_v10_1",
]])(
  "confirming with %j is refused",
  async ([confirm], { example: { sql } }) => {
    await makeRemovable(sql);
    const { token } = await planCleanup(sql);
    await expectRefused(sql, deleteBackup(sql, token, { confirm: confirm! }), "confirm_names_schema");
    // It did not cost the token.
    await deleteBackup(sql, token);
  },
);

test.for([[null], [""], ["0"], ["'; drop schema migration_backup_v10 cascade; --"]])(
  "the token %j is refused",
  async ([token], { example: { sql } }) => {
    await makeRemovable(sql);
    await planCleanup(sql);
    await expectRefused(sql, deleteBackup(sql, token!), "token_is_valid");
  },
);

test("the hash of a token is no token", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await planCleanup(sql);
  const [{ token_hash }] = await sql`select token_hash from migration_guard.cleanup_tokens` as [{ token_hash: string }];
  await expectRefused(sql, deleteBackup(sql, token_hash), "token_is_valid");
});

test("a token is good for ten minutes", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  const { token } = await planCleanup(sql);
  const [{ minutes }] = await sql`
    select extract(epoch from expires_at - now()) / 60 as minutes from migration_guard.cleanup_tokens` as [
    { minutes: string },
  ];
  expect(Number(minutes)).toBeGreaterThan(5);
  expect(Number(minutes)).toBeLessThanOrEqual(10);
  await sql`update migration_guard.cleanup_tokens set expires_at = now()`;
  expect(await expectRefused(sql, deleteBackup(sql, token), "token_is_valid")).toMatch(/expired/);
});

test("a token is good once", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  const { token } = await planCleanup(sql);
  await deleteBackup(sql, token);
  const error = await deleteBackup(sql, token).catch((error) => error);
  expect(error).toMatchObject({ code: "MG013" });
  expect(blocked(JSON.parse(error.detail).guards)).toEqual(["no_job_under_way", "token_is_valid"]);
  await work(sql);
  expect(await exists(sql)).toBe(false);

  await makeRemovable(sql);
  await expect(deleteBackup(sql, token)).rejects.toMatchObject({ code: "MG013" });
  expect(await exists(sql)).toBe(true);
});

test("a token is good for its own backup only", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  await makeRemovable(sql, "v10.1");
  const { token } = await planCleanup(sql, "v10.1");
  await expectRefused(sql, deleteBackup(sql, token), "token_is_valid");
  // The attempt has not spent it.
  await deleteBackup(sql, token, { version: "v10.1", confirm: "migration_backup_v10_1" });
});

test("a token of a backup that was replaced is not good for the new one", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  const { token } = await planCleanup(sql);
  await sql.unsafe(`drop schema ${schema} cascade`);
  await makeRemovable(sql).catch(() => {});
  const [{ id }] = await sql`select id from migration_guard.backups where removed_at is null` as [{ id: string }];
  await sql`update migration_guard.backups set confirmed_by = 'alice', confirmed_at = now() - interval '15 days' where id = ${id}`;
  const error = await deleteBackup(sql, token).catch((error) => error);
  expect(error).toMatchObject({ code: "MG013" });
  expect(blocked(JSON.parse(error.detail).guards)).toEqual(["token_is_valid"]);
  expect(await exists(sql)).toBe(true);
});

test("ten requests at once with one token make one cleanup", async ({ example }) => {
  const { sql } = example;
  await makeRemovable(sql);
  const { token } = await planCleanup(sql);
  const many = example.connect("postgres", 10);
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => deleteBackup(many, token)));
  const refusals = outcomes.filter((outcome) => outcome.status === "rejected").map(({ reason }) => reason.code);
  expect(refusals).toEqual(Array.from({ length: 9 }, () => "MG013"));
  expect(await sql`select from migration_guard.jobs where kind = 'cleanup'`).toHaveLength(1);
});

test("ten requests at once with a token each make one cleanup", async ({ example }) => {
  const { sql } = example;
  await makeRemovable(sql);
  const tokens = await Promise.all(Array.from({ length: 10 }, () => planCleanup(sql)));
  expect(new Set(tokens.map(({ token }) => token)).size).toBe(10);
  const many = example.connect("postgres", 10);
  const outcomes = await Promise.allSettled(tokens.map(({ token }) => deleteBackup(many, token)));
  const refusals = outcomes.filter((outcome) => outcome.status === "rejected").map(({ reason }) => reason.code);
  expect(refusals).toHaveLength(9);
  // Whoever comes while the other is being accepted is told of it by the queue, whoever comes later by the guard.
  for (const code of refusals) expect(["MG010", "MG013"]).toContain(code);
  expect(await sql`select from migration_guard.jobs where kind = 'cleanup'`).toHaveLength(1);
});

test("a token is stored as a hash, and nowhere else", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  const { token } = await planCleanup(sql);
  await deleteBackup(sql, token);
  await work(sql);
  expect(token.length).toBeGreaterThanOrEqual(32);
  const [{ stored }] = await sql`
    select (select jsonb_agg(to_jsonb(t)) from migration_guard.cleanup_tokens as t)::text
      || (select jsonb_agg(to_jsonb(j)) from migration_guard.jobs as j)::text
      || (select jsonb_agg(to_jsonb(b)) from migration_guard.backups as b)::text as stored` as [{ stored: string }];
  expect(stored).not.toContain(token);
  const [{ hashes }] = await sql`
    select array_agg(token_hash) as hashes from migration_guard.cleanup_tokens
    where token_hash = encode(sha256(${token}::bytea), 'hex')` as [{ hashes: string[] }];
  expect(hashes).toHaveLength(1);
});

test("what rollbacks took away is named by the guards, since it goes with the backup", async ({ example: { sql } }) => {
  await makeRemovable(sql);
  const details = async () =>
    (await planCleanup(sql)).guards.find(({ guard, passed }) => guard === "schema_is_a_backup" && passed)!.details;
  expect(await details()).toMatch(/ and nothing else$/);
  await sql`update public.profiles set name = name || '!'`;
  await rollBack(sql, "v10", { data: "restore" });
  expect(await details()).toMatch(
    / and nothing else; what rollbacks took away is nowhere but in .*profiles_discarded$/,
  );
});
