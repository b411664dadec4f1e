import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, tryBackUp, work } from "../support/backup.ts";
import { test } from "../support/database.ts";

type Recorded = {
  kind: string;
  identity: string;
  owner: string | null;
  comment: string | null;
  grants: string[];
  in_plan: boolean;
};

const recorded = async (sql: postgres.Sql): Promise<Map<string, Recorded>> => {
  const rows = await sql<Recorded[]>`
    select kind, identity, owner, comment, grants, in_plan from migration_backup_v1.objects_backup`;
  return new Map(rows.map((row) => [`${row.kind} ${row.identity}`, row]));
};

const item = async (sql: postgres.Sql, name: string) => {
  const [found] = await sql<{ required: boolean; passed: boolean; details: string }[]>`
    select required, passed, details from migration_guard.checklist('v1') where item = ${name}`;
  return found!;
};

test("a backup records the whole schema, and tells what of it the plan covers", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.planned (id int primary key);
    create table public.other (id int primary key);
    create view public.shown as select id from public.other;
  `);
  await backUp(sql, "v1", { tables: ["planned"] });
  const objects = await recorded(sql);
  expect(objects.get("table public.planned")).toMatchObject({ in_plan: true });
  expect(objects.get("index public.planned_pkey")).toMatchObject({ in_plan: true });
  expect(objects.get("table public.other")).toMatchObject({ in_plan: false });
  expect(objects.get("view public.shown")).toMatchObject({ in_plan: false });
  expect(objects.get("schema public")).toMatchObject({ in_plan: false });
  expect(await item(sql, "plan_coverage")).toMatchObject({
    required: false,
    passed: false,
    details: expect.stringMatching(/^\d+ of \d+ objects of the schema public .*; tables that are not: other$/),
  });
});

test("owners, comments and privileges are recorded, default ones as none", async ({ database: { sql, connect } }) => {
  const admin = connect("supabase_admin");
  await admin.unsafe(`
    create table public.theirs (id int, name text);
    comment on table public.theirs is 'It''s theirs.';
    comment on column public.theirs.name is 'First name.';
    revoke all on public.theirs from postgres, anon, authenticated, service_role;
    grant select, update (name) on public.theirs to postgres;
    grant select on public.theirs to anon with grant option;
    create function public.shared() returns int language sql as 'select 1';
    create function public.closed() returns int language sql as 'select 1';
    revoke execute on function public.closed() from public;
  `);
  // The platform's default privileges would give each of them more.
  await admin.unsafe(
    `revoke all on function public.shared() from anon, authenticated, service_role;
     revoke all on function public.closed() from anon, authenticated, service_role;`,
  );
  await admin`grant usage on schema public to postgres`;
  await backUp(sql, "v1", { tables: ["theirs"], functions: ["shared", "closed"] });
  const objects = await recorded(sql);
  const table = objects.get("table public.theirs")!;
  expect(table).toMatchObject({ owner: "supabase_admin", comment: "It's theirs." });
  expect(table.grants[0]).toBe("revoke all on table public.theirs from public, supabase_admin");
  expect(table.grants).toContain("grant select on table public.theirs to anon with grant option");
  expect(table.grants).toContain("grant select on table public.theirs to postgres");
  expect(objects.get("column public.theirs.name")).toMatchObject({
    comment: "First name.",
    grants: ["grant update (name) on table public.theirs to postgres"],
  });
  expect(objects.get("column public.theirs.id")).toMatchObject({ owner: null, comment: null, grants: [] });
  expect(objects.get("function public.shared()")).toMatchObject({ owner: "supabase_admin" });
  expect(objects.get("function public.closed()")!.grants).toEqual([
    "revoke all on function public.closed() from public, supabase_admin",
    "grant execute on function public.closed() to supabase_admin",
    ...objects.get("function public.closed()")!.grants.slice(2),
  ]);
  expect(objects.get("function public.closed()")!.grants.join()).not.toMatch(/to public/);
});

test("where sequences stand is recorded, and moving on is no difference", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.t (id int generated always as identity (start with 5), n serial);
    insert into public.t default values;
    insert into public.t default values;
    create sequence public.untouched start with 7;
  `);
  await backUp(sql, "v1", { tables: ["t"] });
  const positions = await sql`
    select identity, last_value::int, is_called from migration_backup_v1.objects_backup where kind = 'sequence' order by 1`;
  expect([...positions]).toEqual([
    { identity: "public.t_id_seq", last_value: 6, is_called: true },
    { identity: "public.t_n_seq", last_value: 2, is_called: true },
    { identity: "public.untouched", last_value: 7, is_called: false },
  ]);
  await sql`select nextval('public.t_id_seq')`;
  await sql`select migration_guard.assert_ready('v1')`;
  await sql`alter sequence public.t_id_seq increment by 2`;
  await expect(sql`select migration_guard.assert_ready('v1')`).rejects.toMatchObject({
    code: "MG012",
    message: expect.stringContaining("not as saved: public.t_id_seq"),
  });
});

test("what depends on the plan elsewhere is recorded, in other schemas too, and the checklist warns of it", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create schema reports;
    create table public.people (id int primary key, name text);
    create table public.pets (id int primary key, owner int constraint pets_owner references public.people);
    create view reports.names as select name from public.people;
    create view reports.shouted as select upper(name) as name from reports.names;
    create function public.first_name() returns text stable begin atomic select name from public.people limit 1; end;
    create table public.greetings (hello text default public.first_name());
  `);
  await backUp(sql, "v1", { tables: ["people"] });
  const objects = await recorded(sql);
  for (
    const name of [
      ...["view reports.names", "view reports.shouted", "function public.first_name()", "table public.greetings"],
      ...["constraint pets_owner on public.pets"],
    ]
  ) expect(objects.get(name), name).toMatchObject({ in_plan: false });
  const covered = await item(sql, "plan_covers_dependents");
  expect(covered).toMatchObject({ required: false, passed: false });
  expect(covered.details).toBe(
    "outside of it: constraint pets_owner on public.pets; function public.first_name(); view reports.names",
  );
  await sql`select migration_guard.assert_ready('v1')`;
});

test("a plan that covers all leaves nothing to warn of", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.people (id int primary key);
    create table public.pets (id int primary key, owner int references public.people);
  `);
  await backUp(sql, "v1", { tables: ["people", "pets"] });
  for (const name of ["plan_coverage", "plan_covers_dependents", "kinds_covered"]) {
    expect(await item(sql, name), name).toMatchObject({ passed: true });
  }
});

test("objects of a kind that no backup holds are told", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.t (id int);
    create text search configuration public.plain (copy = simple);
    create collation public.mine from "C";
  `);
  await backUp(sql, "v1", { tables: ["t"] });
  const kinds = await item(sql, "kinds_covered");
  expect(kinds).toMatchObject({ required: false, passed: false });
  expect(kinds.details).toMatch(/^no backup holds collation public\.mine, text search configuration public\.plain$/);
});

test("what came with an extension is left to it", async ({ database: { sql, connect } }) => {
  await connect("supabase_admin")`create extension hstore schema public`;
  await sql`create table public.t (id int)`;
  await backUp(sql, "v1", { tables: ["t"] });
  expect([...(await recorded(sql)).keys()].filter((name) => /hstore|each|skeys/.test(name))).toEqual([]);
  expect(await item(sql, "kinds_covered")).toMatchObject({ passed: true });
});

test("a sequence of the plan that may not be read makes the backup fail, another one is left out", async ({ database: { sql, connect } }) => {
  const admin = connect("supabase_admin");
  await sql`create table public.t (id int)`;
  await admin.unsafe(
    `create sequence public.theirs; revoke all on sequence public.theirs from postgres, anon, authenticated, service_role`,
  );
  await backUp(sql, "v1", { tables: ["t"] });
  expect(await sql`select last_value from migration_backup_v1.objects_backup where name = 'theirs'`)
    .toEqual([{ last_value: null }]);

  await admin.unsafe(`
    create table public.owned (id serial);
    grant select on public.owned to postgres;
    revoke all on sequence public.owned_id_seq from postgres, anon, authenticated, service_role;
  `);
  const job = await tryBackUp(sql, "v2", { tables: ["owned"] });
  expect(job).toMatchObject({ status: "failed", error: { code: "insufficient_privilege" } });
});

test("a function of the schema that is replaced while the backup is taken does not end up half old in it", async ({ database: { sql, connect } }) => {
  await sql.unsafe(`
    create table public.t as select 1 as id;
    create function public.outside() returns int language sql as 'select 1';
  `);
  await sql`select migration_guard.put_plan('v1', '{"tables": ["t"]}', 'test')`;
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  const other = connect();
  await other`begin`;
  await other`lock table public.t in access exclusive mode`;
  const done = work(sql);
  // The backup waits for the table now; when it goes on, its snapshot is newer than this.
  await other`create or replace function public.outside() returns int language sql as 'select 2'`;
  await other`commit`;
  await done;
  expect(await lastJob(sql)).toMatchObject({ status: "succeeded" });
  const [{ definition }] = await sql<[{ definition: string }]>`
    select definition from migration_backup_v1.objects_backup where name = 'outside'`;
  expect(definition).toContain("select 2");
});

test("a view that takes a sequence's place while a backup is taken is not read with the owner's rights", async ({ database }) => {
  const { sql, name } = database;
  const admin = database.connect("supabase_admin");
  await sql`create table public.t (id int)`;
  await admin.unsafe(`
    create role mallory_${name} login password 'postgres';
    grant create, usage on schema public to mallory_${name};
  `);
  const mallory = database.connect(`mallory_${name}`);
  await mallory.unsafe(`
    create table public.a (id int default 1);
    create sequence public.zseq;
    grant select on public.zseq to public;
    create function public.evil() returns bigint language plpgsql as $$ begin
      create table public.pwned as select current_user::text as who; return 666; end $$;
    grant execute on function public.evil() to public;
  `);
  await sql`select migration_guard.put_plan('v1', '{"tables": ["t"]}', 'test')`;
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  await mallory.unsafe(`begin; lock table public.a in access exclusive mode`);
  const done = work(database.connect());
  const isWaiting = () => sql`select from pg_locks where relation = 'public.a'::regclass and not granted`;
  await expect.poll(isWaiting, { timeout: 60_000 }).toHaveLength(1);
  await mallory.unsafe(`
    alter sequence public.zseq rename to zseq2;
    create view public.zseq as select public.evil() as last_value, true as is_called;
    grant select on public.zseq to public;
    commit;
  `);
  await done;
  expect(await lastJob(sql)).toMatchObject({ status: "failed" });
  expect(await sql`select to_regclass('public.pwned') as pwned`).toEqual([{ pwned: null }]);
  await admin.unsafe(`drop owned by mallory_${name}; drop role mallory_${name}`);
});

test("an object that is renamed between the snapshot and the record makes the backup fail, not half old and half new", async ({ database }) => {
  const { sql } = database;
  await sql.unsafe(`
    create table public.t (id int);
    create table public.a (id int default 1);
    create table public.b (id int);
    create index b_id on public.b (id);
  `);
  await sql`select migration_guard.put_plan('v1', '{"tables": ["t"]}', 'test')`;
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  const other = database.connect();
  await other.unsafe(`begin; lock table public.a in access exclusive mode`);
  const done = work(database.connect());
  const isWaiting = () => sql`select from pg_locks where relation = 'public.a'::regclass and not granted`;
  await expect.poll(isWaiting, { timeout: 60_000 }).toHaveLength(1);
  await sql`alter index public.b_id rename to b_other`;
  await other`commit`;
  await done;
  expect(await lastJob(sql)).toMatchObject({
    status: "failed",
    error: { code: "types_changed", message: expect.stringContaining("public.b_id") },
  });
});

test("the checklist compares definitions the same way in any session", async ({ database }) => {
  const { sql } = database;
  await sql.unsafe(`
    create table public.t (
      at timestamptz default '2020-06-01 12:00+00' check (at > '2019-01-01 00:00+00'), took interval default '1 day 02:00', path text default 'a\\b'
    );
    create index on public.t (at) where at > '2020-01-01 00:00+00';
  `);
  await backUp(sql, "v1", { tables: ["t"] });
  for (
    const [name, value] of [
      ["timezone", "Europe/Berlin"],
      ["datestyle", "SQL, DMY"],
      ["intervalstyle", "iso_8601"],
      ["standard_conforming_strings", "off"],
      ["quote_all_identifiers", "on"],
    ] as const
  ) {
    const session = database.connect();
    await session`select set_config(${name}, ${value}, false)`;
    await session`select migration_guard.assert_ready('v1')`;
  }
});

test("views that stand on one another, hundreds of them, come in their order", async ({ database: { sql } }) => {
  await sql`create table public.t (id int)`;
  await sql.unsafe(`do $$ begin
    create view public.w300 as select * from public.t;
    for n in reverse 299..1 loop
      execute format('create view public.w%s as select * from public.w%s', n, n + 1);
    end loop;
  end $$`);
  await backUp(sql, "v1", { tables: ["t"] });
  const views = await sql<{ identity: string }[]>`
    select identity from migration_backup_v1.rebuild_script() where statement ~ '^create or replace view' order by step`;
  expect(views.map(({ identity }) => identity)).toEqual(Array.from({ length: 300 }, (_, n) => `public.w${300 - n}`));
});
