import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, work } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { until } from "../support/until.ts";

type Entry = Record<string, unknown> & { parameters: Record<string, unknown> };
type Verification = {
  intact: boolean;
  entries: number;
  head: string | null;
  first_broken: { number: number | null; entry_id: number | null; why: string } | null;
  next_number: string | null;
  last_hash: string | null;
};

const trail = (sql: postgres.Sql) => sql<Entry[]>`select * from migration_guard_api.list_audit('default', 200)`;
const verify = async (sql: postgres.Sql, expected: string | null = null) =>
  (await sql<[Verification]>`
    select intact, entries::int, head, first_broken from migration_guard_api.verify_audit('default', ${expected})`)[0];
const head = async (sql: postgres.Sql) =>
  (await sql<[{ number: string; hash: string }]>`select * from migration_guard_api.get_audit_head('default')`)[0];
const lines = (entries: Entry[]) =>
  entries.map(({ actor, action, outcome }) => `${actor} ${action} ${outcome}`).reverse();

/** Entries of some acts, by number 1, 2, 3, … */
async function makeTrail({ sql }: TestDatabase, acts = 5) {
  for (let i = 1; i <= acts; i++) await sql`select migration_guard_api.put_key(${`key_${i}`}, 'viewer', 'default')`;
}

/** A superuser who has switched every guard off. */
async function tamper(database: TestDatabase, statement: string) {
  const admin = database.connect("supabase_admin");
  await admin.unsafe(`
    alter table migration_guard.audit_log disable trigger all;
    alter table migration_guard.audit_chain disable trigger all;
    ${statement};
    alter table migration_guard.audit_log enable trigger all;
    alter table migration_guard.audit_chain enable trigger all`).simple();
}

// What is recorded

test("each act is recorded with its key, and a job with what becomes of it", async ({ example: { sql } }) => {
  const plan = { tables: ["profiles"], title: "T", notify_url: "https://example.com/SECRET" };
  await sql`select migration_guard_api.put_plan('v1', ${sql.json(plan)}, 'alice')`;
  await sql`select migration_guard_api.create_backup('v1', 'alice')`;
  await work(sql);
  await sql`select migration_guard_api.verify_backup('v1', 'bob')`;
  await work(sql);
  await sql`select migration_guard_api.diff_backup('v1', 5, false, 'bob')`;
  await sql`select migration_guard_api.diff_backup('v1', 5, true, 'bob')`;
  await sql`select migration_guard_api.cancel_job(${(await lastJob(sql)).id}, 'alice')`;
  await work(sql);
  const [{ plan_hash }] = await sql<[{ plan_hash: string }]>`
    select plan_hash from migration_guard_api.plan_rollback('v1', '{}', 'bob')`;
  await sql`select migration_guard_api.roll_back('v1', ${plan_hash}, '{}', true, 'bob')`;
  await work(sql);
  await sql`select migration_guard_api.confirm_backup('v1', 'all well', 'bob')`;
  const [{ token }] = await sql<
    [{ token: string }]
  >`select token from migration_guard_api.plan_cleanup('v1', 'alice')`;
  await sql`update migration_guard.backups set confirmed_at = now() - interval '1 year', verified_ok = true, verified_at = now()`;
  await sql`select migration_guard_api.delete_backup('v1', 'migration_backup_v1', ${token}, 'alice')`;
  await work(sql);
  await sql`select migration_guard_api.delete_plan('v1', 'alice')`;
  await sql`select migration_guard_api.put_key('k', 'operator', 'alice')`;
  await sql`select migration_guard_api.delete_key('k', 'alice')`;

  const entries = await trail(sql);
  const job = (actor: string, kind: string) =>
    ["queued", "running", "succeeded"].map((status) => `${actor} job.${kind} ${status}`);
  // A new job's own line comes before that of who has asked for it.
  const asked = (actor: string, action: string, kind = action) => {
    const [queued, ...rest] = job(actor, kind);
    return [queued, `${actor} ${action} done`, ...rest];
  };
  expect(lines(entries)).toEqual([
    "alice plan.put done",
    ...asked("alice", "backup"),
    ...asked("bob", "verify"),
    "bob job.diff queued",
    "bob diff done",
    "bob job.diff queued",
    "bob diff.values done",
    "bob job.diff cancelled",
    "alice cancel done",
    "bob job.diff running",
    "bob job.diff succeeded",
    "bob rollback_plan done",
    ...asked("bob", "rehearsal", "rollback"),
    "bob confirm done",
    "alice cleanup_plan done",
    ...asked("alice", "cleanup"),
    "alice plan.delete done",
    "alice key.put done",
    "alice key.delete done",
  ]);
  const of = (action: string) => entries.find((entry) => entry.action === action)!;
  expect(of("plan.put")).toMatchObject({
    ...{ role: "admin", db_user: "postgres", version: "v1.0", request_id: null, source: null, job_id: null },
    parameters: { tables: ["profiles"], title: "T" },
  });
  expect(of("rehearsal").parameters).toEqual({ plan_hash, options: {} });
  expect(of("cleanup_plan").parameters).toEqual({ allowed: false, until: expect.any(String) });
  expect(of("confirm").parameters).toEqual({ note: "all well" });
  expect(of("backup").job_id).toBe(entries.find(({ action }) => action === "job.backup")!.job_id);
  expect(of("job.cleanup").parameters).toEqual({ from: "running", attempt: 1 });
  expect(JSON.stringify(entries)).not.toMatch(new RegExp(`SECRET|${token}`));
  expect(await verify(sql)).toMatchObject({ intact: true, entries: entries.length, first_broken: null });
});

test("a sign-off that is made again is recorded with who has made the one that stands, also where both are made at once", async ({ example }) => {
  const { sql, connect } = example;
  await backUp(sql, "v1", { tables: ["profiles"] });
  const confirm = (session: postgres.Sql, note: string, actor: string) =>
    session`select migration_guard_api.confirm_backup('v1', ${note}, ${actor})`;
  const [first, observer] = [connect(), connect()];
  await first`begin`;
  await confirm(first, "all well", "alice");
  const second = confirm(sql, "looks fine", "bob").execute();
  await until(async () =>
    (await observer`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
      .length > 0
  );
  await first`commit`;
  await second;
  await confirm(sql, "all well", "alice");
  const entries = (await trail(sql)).filter(({ action }) => action === "confirm").reverse();
  expect(entries.map(({ actor, parameters }) => [actor, parameters])).toEqual([
    ["alice", { note: "all well" }],
    ["bob", { note: "looks fine", stands: "alice" }],
    ["alice", { note: "all well", stands: "alice" }],
  ]);
  expect(await sql`select confirmed_by, confirmation_note from migration_guard.backups`).toEqual([
    { confirmed_by: "alice", confirmation_note: "all well" },
  ]);
});

test("what is undone is not recorded, and a failed job is, with its code", async ({ database: { sql } }) => {
  await sql`create table public.kept (id int)`;
  await sql`select migration_guard_api.put_plan('v1', '{"tables": ["kept"]}', 'alice')`;
  await sql.begin(async (transaction) => {
    await transaction`select migration_guard_api.create_backup('v1', 'alice')`;
    throw new Error("undone");
  }).catch(() => {});
  await expect(sql`select migration_guard_api.create_backup('v2', 'alice')`).rejects.toMatchObject({ code: "MG004" });
  expect(lines(await trail(sql))).toEqual(["alice plan.put done"]);
  await sql`select migration_guard_api.create_backup('v1', 'alice')`;
  await sql`create schema migration_backup_v1`;
  await work(sql);
  expect((await trail(sql))[0]).toMatchObject({
    action: "job.backup",
    outcome: "failed",
    parameters: { error_code: "backup_exists" },
  });
});

test("the request and its source are those of the headers that REST passes on, the user is Postgres's own", async ({ database }) => {
  const rest = database.connect("authenticator");
  await rest.begin(async (transaction) => {
    await transaction`set local role service_role`;
    const headers = { "x-migration-guard-request-id": "request-7", "x-migration-guard-source": "203.0.113.9" };
    await transaction`select set_config('request.headers', ${JSON.stringify(headers)}, true)`;
    await transaction`select migration_guard_api.put_key('k', 'viewer', 'default')`;
    await transaction`select migration_guard_api.record_refusal('cleanup', 'k', 'v1', null, '{"status": 403}')`;
  });
  const expected = { db_user: "authenticator", request_id: "request-7", source: "203.0.113.9" };
  expect(await trail(database.sql)).toMatchObject([
    { ...expected, actor: "k", role: "viewer", action: "cleanup", outcome: "refused", version: "v1.0" },
    { ...expected, actor: "default", role: "admin", action: "key.put" },
  ]);
});

test("the trail is read page by page, and by what it tells of", async ({ database: { sql } }) => {
  await sql`create table public.kept (id int)`;
  await sql`select migration_guard_api.put_plan('v1', '{"tables": ["kept"]}', 'alice')`;
  await sql`select migration_guard_api.put_plan('v2', '{"tables": ["kept"]}', 'bob')`;
  await sql`select migration_guard_api.delete_plan('v2', 'alice')`;
  const all = await trail(sql);
  const [last, ...rest] = all;
  expect(await sql`select * from migration_guard_api.list_audit('default', 1)`).toEqual([last]);
  expect(await sql`select * from migration_guard_api.list_audit('default', before => ${last!.id as string})`)
    .toEqual(rest);
  const found = async (filter: string) =>
    lines(await sql.unsafe<Entry[]>(`select * from migration_guard_api.list_audit('default', ${filter})`));
  expect(await found("of_version => 'v2'")).toEqual(["bob plan.put done", "alice plan.delete done"]);
  expect(await found("of_actor => 'bob'")).toEqual(["bob plan.put done"]);
  expect(await found("of_action => 'plan.delete', of_outcome => 'done'")).toEqual(["alice plan.delete done"]);
  expect(await found("of_outcome => 'refused'")).toEqual([]);
  expect(await found("since => clock_timestamp()")).toEqual([]);
  expect(await found("until => clock_timestamp()")).toHaveLength(3);
});

// Append-only

test.for(["postgres", "supabase_admin"])(
  "%s can neither change, remove nor empty anything of it",
  async (user, { database }) => {
    await makeTrail(database);
    const sql = database.connect(user);
    const before = await trail(database.sql);
    for (const setting of ["origin", "replica"]) {
      await sql`select set_config('session_replication_role', ${setting}, false)`;
      for (const table of ["migration_guard.audit_log", "migration_guard.audit_chain"]) {
        const column = table.endsWith("log") ? "actor" : "hash";
        for (
          const statement of [
            `update ${table} set ${column} = 'x'`,
            `update ${table} set ${column} = ${column} where false`,
            `delete from ${table}`,
            `truncate ${table} cascade`,
          ]
        ) {
          const outcome = await sql.unsafe(statement).catch((error) => error);
          if (statement.startsWith("insert")) continue;
          expect(outcome, `${setting}: ${statement}`).toMatchObject({ code: "MG030" });
        }
      }
    }
    expect(await trail(database.sql)).toEqual(before);
    expect(await verify(database.sql)).toMatchObject({ intact: true });
  },
);

// The chain

test("each hash is over the one before and the entry, whatever the session's settings", async ({ database }) => {
  const { sql } = database;
  await sql`set timezone = 'Asia/Kathmandu'`;
  await sql`set datestyle = 'German'`;
  await makeTrail(database, 3);
  await sql`set timezone = 'UTC'`;
  await sql`set datestyle = 'ISO'`;
  const entries = (await trail(sql)).reverse();
  expect(entries.map(({ number }) => number)).toEqual(["1", "2", "3"]);
  const links = await sql`select previous_hash, hash from migration_guard.audit_chain order by number`;
  expect(links.map(({ previous_hash }) => previous_hash)).toEqual(["0".repeat(64), links[0]!.hash, links[1]!.hash]);
  const [reckoned] = await sql`
    select encode(sha256(convert_to(${
    links[1]!.hash
  } || jsonb_build_array(l.id, to_char(l.at, 'YYYY-MM-DD"T"HH24:MI:SS.') || rtrim(to_char(l.at, 'US'), '0'),
      l.actor, l.role, l.db_user, l.request_id, l.source, l.version, l.job_id, l.action, l.outcome, l.parameters)::text, 'UTF8')), 'hex') as hash
    from migration_guard.audit_log as l order by l.id desc limit 1`;
  expect(reckoned!.hash).toBe(links[2]!.hash);
  expect(await verify(sql)).toEqual({ intact: true, entries: 3, head: links[2]!.hash, first_broken: null });
  expect(await head(sql)).toMatchObject({ number: "3", hash: links[2]!.hash });
});

test("before anything was recorded the trail is intact and has no head", async ({ database: { sql } }) => {
  expect(await verify(sql)).toEqual({ intact: true, entries: 0, head: null, first_broken: null });
  expect(await head(sql)).toMatchObject({ number: null, hash: null, at: null });
});

test.for<[what: string, statement: string, number: number | null, why: RegExp]>([
  ["a changed actor", "update migration_guard.audit_log set actor = 'x' where id = 3", 3, /entry 3 was changed/],
  [
    "a changed time",
    "update migration_guard.audit_log set at = at + interval '1 microsecond' where id = 4",
    4,
    /entry 4 was changed/,
  ],
  [
    "a time that is another only before Christ",
    "update migration_guard.audit_log set at = (to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00 BC')::timestamptz where id = 4",
    4,
    /entry 4 was changed/,
  ],
  ["a time without end", "update migration_guard.audit_log set at = 'infinity' where id = 4", 4, /entry 4 was changed/],
  ["a changed hash", "update migration_guard.audit_chain set hash = repeat('1', 64) where number = 2", 2, /changed/],
  [
    "an entry that was taken out",
    "delete from migration_guard.audit_chain where entry_id = 3; delete from migration_guard.audit_log where id = 3",
    4,
    /Number 3 is missing/,
  ],
  ["an entry that is gone", "delete from migration_guard.audit_log where id = 3", 3, /entry 3 is gone/],
  [
    "two entries that changed places",
    "update migration_guard.audit_chain set entry_id = -entry_id where number in (3, 4); update migration_guard.audit_chain set entry_id = 7 + entry_id where number in (3, 4)",
    3,
    /entry 4 was changed/,
  ],
  [
    "an entry that was put in between",
    "insert into migration_guard.audit_log (actor, action, outcome) values ('x', 'x', 'x')",
    null,
    /Entry 6 is neither/,
  ],
  [
    "a link whose hash was reckoned anew",
    `update migration_guard.audit_log set actor = 'x' where id = 2;
     update migration_guard.audit_chain as c set hash = migration_guard.audit_hash(c.previous_hash, l)
     from migration_guard.audit_log as l where l.id = c.entry_id and c.number = 2`,
    3,
    /does not hold the hash of the one before/,
  ],
])("%s is found, and named", async ([, statement, number, why], { database }) => {
  await makeTrail(database);
  await tamper(database, statement);
  const found = await verify(database.sql);
  expect(found.intact).toBe(false);
  expect(found.first_broken).toMatchObject({ number, why: expect.stringMatching(why) });
});

/** What the parts of the trail tell, so many entries each. */
async function verifyParts(sql: postgres.Sql, size: number, from = 1) {
  const parts: Verification[] = [];
  let previous: string | null = null;
  for (let next: number | null = from; next !== null;) {
    const [part] = await sql<[Verification]>`
      select * from migration_guard_api.verify_audit('default', null, ${next}, ${size}, ${previous})` as [Verification];
    parts.push(part);
    previous = part.last_hash;
    next = part.next_number === null ? null : Number(part.next_number);
  }
  return parts;
}
const broken = (parts: Verification[]) => parts.flatMap(({ first_broken }) => first_broken?.why ?? []);

test("the parts of the trail, one after the other, are all of it", async ({ database }) => {
  const { sql } = database;
  await makeTrail(database, 7);
  const parts = await verifyParts(sql, 3);
  expect(parts.map(({ intact, entries, next_number }) => [intact, Number(entries), next_number])).toEqual([
    [true, 3, "4"],
    [true, 3, "7"],
    [true, 1, null],
  ]);
  expect(parts[2]).toMatchObject({ last_hash: parts[0]!.head });
  expect((await verify(sql)).entries).toBe(7);
});

test.for<[what: string, statement: string, why: RegExp]>([
  ["a changed entry", "update migration_guard.audit_log set actor = 'x' where id = 4", /entry 4 was changed/],
  ["a number that is gone", "delete from migration_guard.audit_chain where number = 3", /Number 3 is missing/],
  [
    "an entry in no part of the chain",
    "delete from migration_guard.audit_chain where number = 7; delete from migration_guard.audit_pending",
    /Entry 7 is neither/,
  ],
  [
    "an entry that was put before the first",
    "insert into migration_guard.audit_log (id, action, outcome) overriding system value values (-1, 'x', 'x')",
    /Entry -1 is neither/,
  ],
])("%s is found part by part, whatever their size", async ([, statement, why], { database }) => {
  await makeTrail(database, 7);
  await tamper(database, statement);
  for (const size of [1, 2, 3, 7]) {
    expect(broken(await verifyParts(database.sql, size)), `${size}`).toContainEqual(expect.stringMatching(why));
  }
});

test("a part that was read before and was made anew since is found by the hash that was read last", async ({ database }) => {
  const { sql } = database;
  await makeTrail(database, 4);
  const [first] = await sql<[Verification]>`select * from migration_guard_api.verify_audit('default', null, 1, 2)`;
  await tamper(
    database,
    `do $$ declare k record; before text := migration_guard.audit_root(); begin
      update migration_guard.audit_log set actor = 'x' where id = 1;
      for k in select c.number, c.entry_id from migration_guard.audit_chain as c order by c.number loop
        update migration_guard.audit_chain as c set previous_hash = before, hash = migration_guard.audit_hash(before, l)
        from migration_guard.audit_log as l where l.id = k.entry_id and c.number = k.number returning c.hash into before;
      end loop;
    end $$`,
  );
  expect(await verify(sql)).toMatchObject({ intact: true });
  const [rest] = await sql<[Verification]>`
    select * from migration_guard_api.verify_audit('default', null, 3, 2, ${first.last_hash})`;
  expect(rest).toMatchObject({ intact: false, first_broken: { number: 2, why: expect.stringMatching(/^Number 2 /) } });
});

test("a page of the trail reads no more than it shows, whatever it is asked for", async ({ database }) => {
  const { sql } = database;
  await database.connect("supabase_admin").unsafe(`
    alter table migration_guard.audit_log disable trigger all;
    insert into migration_guard.audit_log (at, actor, version, action, outcome)
    select now() + g * interval '1 second', 'key' || g % 20, 'v' || g % 50 || '.0', 'plan.put', 'done' from generate_series(1, 20000) as g;
    alter table migration_guard.audit_log enable trigger all;
    alter table migration_guard.audit_log enable always trigger append_only;
    analyze migration_guard.audit_log`).simple();
  const filters = ["of_version => 'v7'", "of_version => 'v999'", "of_actor => 'nobody'", "of_action => 'rollback'"];
  filters.push(
    "of_outcome => 'refused'",
    "since => '2020-01-01', until => '2020-01-02'",
    "before => 10000",
    "until => now()",
  );
  for (const filter of filters) {
    // As PostgREST calls it, with a plan that was made before.
    const read = await sql.begin(async (transaction) => {
      await transaction.unsafe(`select * from migration_guard_api.list_audit('default', 50, ${filter})`);
      const [row] = await transaction<[{ read: string }]>`
        select pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_fetched(c.oid) as read
        from pg_class as c where c.oid = 'migration_guard.audit_log'::regclass`;
      return Number(row.read);
    });
    expect(read, filter).toBeLessThan(500);
  }
});

test("when an entry was written, and by whom, is what Postgres knows", async ({ database: { sql } }) => {
  await sql`
    insert into migration_guard.audit_log (at, db_user, action, outcome) values ('2020-01-01', 'somebody', 'x', 'x')`;
  expect(await sql`select db_user, at > now() - interval '1 hour' as is_now from migration_guard.audit_log`)
    .toEqual([{ db_user: "postgres", is_now: true }]);
});

test("the role in an entry is the one that the key had when it asked, though it was lowered meanwhile", async ({ database: { sql } }) => {
  await sql`select migration_guard_api.put_key('other', 'admin', 'default')`;
  await sql.begin(async (call) => {
    await call`select migration_guard.require_change('other', 'admin')`;
    await call`update migration_guard.key_roles set role = 'viewer' where name = 'other'`;
    await call`select migration_guard.audit('act', 'other')`;
  });
  await sql`select migration_guard.audit('act', 'other')`;
  expect(await sql`select actor, role from migration_guard.audit_log where action = 'act' order by id`).toEqual([
    { actor: "other", role: "admin" },
    { actor: "other", role: "viewer" },
  ]);
});

test("a session that holds any advisory lock keeps nothing from the chain, and what waits is told", async ({ database }) => {
  const { sql } = database;
  const stranger = database.connect("authenticator");
  await stranger`select pg_advisory_lock(hashtextextended('migration_guard.audit_chain', 0))`;
  await makeTrail(database, 2);
  expect((await trail(sql)).map(({ number }) => number)).toEqual(["2", "1"]);
  const state = async (name: string) =>
    (await sql.unsafe(`
      select pending::int, oldest_pending_at is not null as has_oldest from migration_guard_api.${name}('default')`))[
      0
    ];
  expect(await state("get_audit_head")).toEqual({ pending: 0, has_oldest: false });
  const other = database.connect();
  await sql.begin(async (open) => {
    await open`select migration_guard_api.put_key('k', 'viewer', 'default')`;
    await other`select migration_guard_api.record_refusal('second', 'b', null, null, '{"status": 403}')`;
    const [row] = await other`
      select pending::int, oldest_pending_at is not null as has_oldest from migration_guard_api.get_audit_head('default')`;
    expect(row).toEqual({ pending: 1, has_oldest: true });
  });
  expect(await state("verify_audit")).toEqual({ pending: 0, has_oldest: false });
});

test("an entry that was taken from those that wait for the chain is found", async ({ database }) => {
  const { sql } = database;
  await makeTrail(database, 1);
  await sql`insert into migration_guard.audit_log (actor, action, outcome) values ('x', 'x', 'x')`;
  await sql`delete from migration_guard.audit_pending`;
  expect((await verify(sql)).first_broken).toMatchObject({
    number: null,
    entry_id: 2,
    why: expect.stringMatching(/neither/),
  });
});

test("an end that was cut off is found by who has kept its hash", async ({ database }) => {
  const { sql } = database;
  await makeTrail(database);
  const { hash } = await head(sql);
  expect(await verify(sql, hash)).toMatchObject({ intact: true });
  await makeTrail(database, 1);
  expect(await verify(sql, hash)).toMatchObject({ intact: true });
  await tamper(
    database,
    "delete from migration_guard.audit_chain where number >= 5; delete from migration_guard.audit_log where id >= 5",
  );
  expect(await verify(sql)).toMatchObject({ intact: true });
  expect(await verify(sql, hash)).toMatchObject({
    intact: false,
    first_broken: { why: expect.stringContaining("cut off") },
  });
});

test("fifty writers at once keep one chain, and none waits for another", async ({ database }) => {
  const { sql } = database;
  const many = database.connect("postgres", 50);
  await Promise.all(
    Array.from(
      { length: 500 },
      (_, i) =>
        many`select migration_guard_api.record_refusal('test', ${`key_${i % 7}`}, null, null, '{"status": 409}')`,
    ),
  );
  expect(await verify(sql)).toMatchObject({ intact: true, entries: 500 });
  const [chain] = await sql`
    select count(*)::int as links, max(number)::int as last, count(distinct previous_hash)::int as hashes,
      (select count(*)::int from migration_guard.audit_pending) as pending
    from migration_guard.audit_chain`;
  expect(chain).toEqual({ links: 500, last: 500, hashes: 500, pending: 0 });
});

test("a writer that holds the chain open keeps nobody from writing; what they wrote is sealed afterwards", async ({ database }) => {
  const { sql } = database;
  const other = database.connect();
  await sql.begin(async (open) => {
    await open`select migration_guard_api.record_refusal('first', 'a', null, null, '{"status": 403}')`;
    await other`select migration_guard_api.record_refusal('second', 'b', null, null, '{"status": 403}')`;
    expect(await other`select action, number from migration_guard_api.list_audit('default')`).toEqual([
      { action: "second", number: null },
    ]);
  });
  expect(await sql`select action, number from migration_guard_api.list_audit('default')`).toEqual([
    { action: "second", number: "2" },
    { action: "first", number: "1" },
  ]);
  expect(await verify(sql)).toMatchObject({ intact: true, entries: 2 });
});

test("a transaction that does not see what others commit leaves the chain to others", async ({ database }) => {
  const { sql } = database;
  const other = database.connect();
  await sql.begin("isolation level repeatable read", async (old) => {
    await old`select 1`;
    await other`select migration_guard_api.record_refusal('second', 'b', null, null, '{"status": 403}')`;
    await old`select migration_guard_api.record_refusal('first', 'a', null, null, '{"status": 403}')`;
  });
  expect(await verify(sql)).toMatchObject({ intact: true, entries: 2 });
});

test("a trail that was dumped is put back as it was, and goes on", async ({ database }) => {
  const { sql } = database;
  await makeTrail(database);
  const before = await trail(sql);
  await tamper(
    database,
    `create table public.log as table migration_guard.audit_log; create table public.chain as table migration_guard.audit_chain;
     delete from migration_guard.audit_chain; delete from migration_guard.audit_log`,
  );
  // As the data of a dump: into tables whose triggers are there already.
  await sql`set session_replication_role = replica`;
  await sql`insert into migration_guard.audit_log overriding system value table public.log`;
  await sql`insert into migration_guard.audit_chain table public.chain`;
  await sql`reset session_replication_role`;
  await makeTrail(database, 1);
  expect((await trail(sql)).slice(1)).toEqual(before);
  expect(await verify(sql)).toMatchObject({ intact: true, entries: 6 });
  expect(await sql`select from migration_guard.audit_pending`).toHaveLength(0);
});

test("the trail outlives the plans, jobs and backups that it speaks of", async ({ example }) => {
  const { sql } = example;
  await sql`select migration_guard_api.put_plan('v1', '{"tables": ["profiles"]}', 'alice')`;
  await sql`select migration_guard_api.create_backup('v1', 'alice')`;
  await work(sql);
  const before = await trail(sql);
  await sql`truncate migration_guard.plans, migration_guard.jobs, migration_guard.backups cascade`;
  expect(await trail(sql)).toEqual(before);
  expect(await verify(sql)).toMatchObject({ intact: true });
});
