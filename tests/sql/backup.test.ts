import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, tryBackUp, verify, work } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** Where a table was copied to, by its name. */
async function copies(sql: postgres.Sql, schema = "migration_backup_v1"): Promise<Map<string, string>> {
  const rows = await sql<{ source_table: string; backup_table: string }[]>`
    select source_table, backup_table from ${sql(schema)}.tables_backup`;
  return new Map(rows.map(({ source_table, backup_table }) => [source_table, backup_table]));
}

async function expectOk(sql: postgres.Sql, version: string): Promise<void> {
  expect([...await verify(sql, version)].filter(([, { status }]) => status !== "OK")).toEqual([]);
}

/** Every relation, function, type and schema that is not temporary. */
const everything = async (sql: postgres.Sql) => [
  ...await sql`
    with named as (
      select 'relation' as kind, relnamespace as namespace, relname as name from pg_class
      union all select 'function', pronamespace, proname from pg_proc
      union all select 'type', typnamespace, typname from pg_type
      union all select 'schema', oid, nspname from pg_namespace
    )
    select kind, namespace::regnamespace::text as schema, name from named
    where namespace::regnamespace::text !~ '^pg_(temp|toast)' order by 1, 2, 3`,
];

test("a backup of the example passes every check", async ({ example: { sql } }) => {
  await backUp(sql, "v10.0", examplePlan);
  const checks = await verify(sql, "v10");
  expect([...checks].filter(([, check]) => check.status !== "OK")).toEqual([]);
  expect(checks.size).toBeGreaterThan(10);
});

test("a backup counts what it holds, and holds what is there", async ({ example: { sql } }) => {
  const job = await backUp(sql, "v10.0", examplePlan);
  const [metadata] = await sql`select * from migration_backup_v10.backup_metadata`;
  expect(metadata).toMatchObject({
    migration_version: "v10.0",
    description: `${examplePlan.title}: ${examplePlan.description}`,
    actor: "test",
    tables_backed_up: 4,
    rows_backed_up: "3078",
    functions_backed_up: 4,
    indexes_backed_up: 11,
    policies_backed_up: 10,
    enums_backed_up: 1,
    plan: examplePlan,
  });
  expect(job.result).toMatchObject({
    schema: "migration_backup_v10",
    backup_id: metadata!.backup_id,
    rows_backed_up: 3078,
  });
  const [registered] = await sql`select id, manifest from migration_guard.backups`;
  expect(registered).toEqual({ id: metadata!.backup_id, manifest: metadata!.manifest });

  const tables = await sql`select source_table, backup_table, row_count::int, source_checksum = backup_checksum as same
    from migration_backup_v10.tables_backup order by source_table`;
  expect(tables.map(({ source_table }) => source_table)).toEqual([...examplePlan.tables].sort());
  for (const { source_table, backup_table, row_count, same } of tables) {
    const [{ rows }] = await sql<[{ rows: number }]>`select count(*)::int as rows from public.${sql(source_table)}`;
    expect({ backup_table, row_count, same }).toEqual({
      backup_table: `${source_table}_backup`,
      row_count: rows,
      same: true,
    });
  }
  const profiles = await sql`select * from public.profiles order by id`;
  expect([...await sql`select * from migration_backup_v10.profiles_backup order by id`]).toEqual([...profiles]);
});

test("the checksum of a table is that of its content, whatever the order of its rows", async ({ database: { sql } }) => {
  await sql`create table public.up as select n, 'x' || n as name from generate_series(1, 1000) as n`;
  await sql`create table public.down as select n, 'x' || n as name from generate_series(1000, 1, -1) as n`;
  await sql`create table public.other as select n, 'x' || 1001 - n as name from generate_series(1, 1000) as n`;
  await backUp(sql, "v1", { tables: ["up", "down", "other"] });
  const rows = await sql`select source_table, source_checksum from migration_backup_v1.tables_backup`;
  const checksums = new Map(rows.map(({ source_table, source_checksum }) => [source_table, source_checksum]));
  expect(checksums.get("up")).toBe(checksums.get("down"));
  expect(checksums.get("up")).not.toBe(checksums.get("other"));
});

const names = [
  ...["Mixed Case", "a.b", "a;drop table x;--", "it's", 'say "hi"', "Клиенты", "select", "user", "%s", "%1$I", "$1"],
  ...["back\\slash", " ", "r", "t", "m", "tab\ttab", "new\nline", "a/b/c", "{schema}", "{checksum_query}"],
  ...["a".repeat(63), `${"a".repeat(55)}_one`, `${"a".repeat(55)}_two`, "Я".repeat(31), "Я".repeat(27) + "э"],
  ...["functions", "indexes", "policies", "objects", "tables", "backup_metadata", "backup", "functions_backup"],
  ...["level_enum", "objects_backup_pkey", "_tables", "verify_backup_integrity"],
];

test("tables may be called anything: each has its copy, by a name that is free", async ({ database: { sql } }) => {
  for (const [index, name] of names.entries()) {
    await sql.unsafe(`create table public.${quote(name)} (id int, "${"c".repeat(index + 1)}" text)`);
    await sql.unsafe(`insert into public.${quote(name)} values (${index}, $1)`, [name]);
  }
  await sql`create type public.level as enum ('low', 'high')`;
  await backUp(sql, "v1", { tables: names, enums: ["level"] });

  const found = await copies(sql);
  expect([...found.keys()].sort()).toEqual([...names].sort());
  expect(new Set(found.values()).size).toBe(names.length);
  for (const [index, name] of names.entries()) {
    const copy = found.get(name)!;
    expect(Buffer.byteLength(copy), copy).toBeLessThanOrEqual(63);
    expect(copy).toMatch(/_backup$/);
    const rows = await sql.unsafe(`select * from migration_backup_v1.${quote(copy)}`);
    expect([...rows]).toEqual([{ id: index, ["c".repeat(index + 1)]: name }]);
  }
  expect(found.get("Mixed Case")).toBe("Mixed Case_backup");
  const catalogs = await sql`select
    (select count(*)::int from migration_backup_v1.objects_backup where kind = 'table') as tables,
    (select array_agg(relname::text) from pg_class where relnamespace = 'migration_backup_v1'::regnamespace
       and relkind = 'v' and relname ~ 'enum') as enum_views`;
  expect(catalogs[0]).toEqual({
    tables: names.length,
    enum_views: [expect.stringMatching(/^level_\w{8}_enum_backup$/)],
  });
  await expectOk(sql, "v1");
});

test("names with the same beginning, too long for a suffix, have copies of their own", async ({ database: { sql } }) => {
  const alike = ["1", "2"].map((end) => "Ж".repeat(30) + end);
  for (const name of alike) {
    await sql.unsafe(`create table public."${name}" as select '${name}' as name`);
    await sql.unsafe(`create type public."${name}e" as enum ('${name}')`);
  }
  await backUp(sql, "v1", { tables: alike, enums: alike.map((name) => `${name}e`) });
  const found = await copies(sql);
  for (const name of alike) {
    const copy = found.get(name)!;
    expect(copy).toMatch(/^Ж+_\w{8}_backup$/);
    expect([...await sql.unsafe(`select name from migration_backup_v1."${copy}"`)]).toEqual([{ name }]);
  }
  const views = await sql`select relname from pg_class
    where relnamespace = 'migration_backup_v1'::regnamespace and relname ~ '_enum_backup$'`;
  const values = await Promise.all(
    views.map(({ relname }) => sql`select enum_value from migration_backup_v1.${sql(relname)}`),
  );
  expect(values.map(([row]) => row!.enum_value).sort()).toEqual([...alike].sort());
  await expectOk(sql, "v1");
});

test("a schema may be called anything", async ({ database: { sql } }) => {
  await sql`create schema "Мой. ""Schema"""`;
  await sql`create table "Мой. ""Schema"""."T" (id int primary key)`;
  await sql`insert into "Мой. ""Schema"""."T" values (7)`;
  await backUp(sql, "v1", { schema: 'Мой. "Schema"', tables: ["T"] });
  expect([...await sql`select * from migration_backup_v1."T_backup"`]).toEqual([{ id: 7 }]);
  await expectOk(sql, "v1");
});

test("tables without columns, rows or primary key are backed up too", async ({ database: { sql } }) => {
  await sql`create table public.nothing ()`;
  for (let rows = 0; rows < 3; rows++) await sql`insert into public.nothing default values`;
  await sql`create table public.empty (id int primary key, name text)`;
  await sql`create table public.twice (name text)`;
  await sql`insert into public.twice values ('a'), ('a'), (null), (null)`;
  await backUp(sql, "v1", { tables: ["nothing", "empty", "twice"] });
  const counts = await sql`select
    (select count(*)::int from migration_backup_v1.nothing_backup) as nothing,
    (select count(*)::int from migration_backup_v1.empty_backup) as empty,
    (select count(*)::int from migration_backup_v1.twice_backup where name is null) as twice`;
  expect(counts[0]).toEqual({ nothing: 3, empty: 0, twice: 2 });
  await expectOk(sql, "v1");
  await sql`insert into migration_backup_v1.nothing_backup default values`;
  expect((await verify(sql, "v1")).get("table public.nothing")).toMatchObject({ status: "FAIL" });
});

test("a table may have as many columns as Postgres allows", async ({ database: { sql } }) => {
  const columns = Array.from({ length: 1600 }, (_, index) => `c${index}`);
  await sql.unsafe(`create table public.wide (${columns.map((name) => `${name} smallint`).join(", ")})`);
  await sql.unsafe(
    `insert into public.wide select ${
      columns.map((_, index) => `n + ${index}`).join(", ")
    } from generate_series(1, 3) n`,
  );
  await backUp(sql, "v1", { tables: ["wide"] });
  expect([...await sql`select * from migration_backup_v1.wide_backup order by c0`])
    .toEqual([...await sql`select * from public.wide order by c0`]);
  await expectOk(sql, "v1");
});

test("a parent's copy has the parent's own rows, a partitioned table's those of its partitions", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.parent (id int);
    create table public.child (extra text) inherits (public.parent);
    insert into public.parent values (1);
    insert into public.child values (2, 'x');
    create table public.logs (id int, day date) partition by range (day);
    create table public.logs_old partition of public.logs for values from (minvalue) to ('2024-01-01');
    create table public.logs_new partition of public.logs for values from ('2024-01-01') to (maxvalue);
    insert into public.logs values (1, '2023-01-01'), (2, '2025-01-01');
  `);
  await backUp(sql, "v1", { tables: ["parent", "child", "logs", "logs_new"] });
  const ids = async (table: string) =>
    (await sql`select id from migration_backup_v1.${sql(table)} order by id`).map(({ id }) => id);
  expect(await ids("parent_backup")).toEqual([1]);
  expect(await ids("child_backup")).toEqual([2]);
  expect(await ids("logs_backup")).toEqual([1, 2]);
  expect(await ids("logs_new_backup")).toEqual([2]);
  const tables = await sql`select source_table, row_count::int from migration_backup_v1.tables_backup order by 1`;
  expect(tables.map(({ row_count }) => row_count)).toEqual([1, 2, 1, 1]);
  await sql`drop table public.logs, public.parent cascade`;
  await expectOk(sql, "v1");
});

test("enum values are kept in their order, those that were added in between too", async ({ database: { sql } }) => {
  await sql`create type public.level as enum ('mid')`;
  await sql`alter type public.level add value 'low' before 'mid'`;
  await sql`alter type public.level add value 'high' after 'mid'`;
  await sql`alter type public.level add value 'Ё''s, "x"' after 'low'`;
  await sql`create table public.t (level public.level)`;
  await backUp(sql, "v1", { tables: ["t"], enums: ["level"] });
  const saved = await sql`
    select enum_value, enum_sort_order, backed_up_at from migration_backup_v1.level_enum_backup order by enum_sort_order`;
  const live = await sql`
    select enumlabel as enum_value, enumsortorder as enum_sort_order from pg_enum
    where enumtypid = 'public.level'::regtype order by enumsortorder`;
  expect(saved.map(({ backed_up_at: _, ...row }) => row)).toEqual([...live]);
  expect(saved.map(({ enum_value }) => enum_value)).toEqual(["low", `Ё's, "x"`, "mid", "high"]);
  expect(saved.every(({ backed_up_at }) => backed_up_at instanceof Date)).toBe(true);

  await sql`alter type public.level rename value 'low' to 'x'`;
  await sql`drop table public.t`;
  await sql`drop type public.level`;
  const [{ definition }] = await sql<[{ definition: string }]>`
    select definition from migration_backup_v1.objects_backup where kind = 'enum'`;
  await sql.unsafe(definition);
  expect(await sql`select enum_range(null::public.level)::text as values`).toEqual([
    { values: `{low,"Ё's, \\"x\\"",mid,high}` },
  ]);
});

test("functions are kept as statements that make them again", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.t (id int primary key, name text);
    create type public.level as enum ('low', 'high');
    create function public.over(a int, b text default 'it''s $$') returns text language sql immutable
      as $f$ select a || b || $$ 'quoted' \\ $$ $f$;
    create function public.over(a public.level) returns setof public.t language plpgsql security definer
      set search_path = public, pg_temp rows 10 cost 5 as $f$ begin return query select * from t; end $f$;
    create function public.atomic(a int) returns int stable strict leakproof parallel safe
      begin atomic select id from public.t where id = a; end;
    create procedure public."Do It"(inout x int, variadic y text[]) language plpgsql as $f$ begin x := 1; end $f$;
    create function public.not_saved() returns int language sql as 'select 1';
    create aggregate public.over_all(int) (sfunc = int4pl, stype = int);
  `.replace(" leakproof", ""));
  await backUp(sql, "v1", { tables: ["t"], functions: ["over", "atomic(integer)", "Do It"] });
  const definitions = () =>
    sql`select proname::text as function_name, pg_get_functiondef(oid) as function_definition from pg_proc
      where pronamespace = 'public'::regnamespace and prokind <> 'a' and proname <> 'not_saved' order by 1, 2`;
  await sql`set search_path = ''`;
  const live = [...await definitions()];
  const saved = await sql`
    select function_name, function_definition from migration_backup_v1.functions_backup order by 1, 2`;
  expect([...saved]).toEqual(live);
  expect(saved.map(({ function_name }) => function_name)).toEqual(["Do It", "atomic", "over", "over"]);

  await sql`drop function public.over(int, text), public.over(public.level), public.atomic(int)`;
  await sql`drop procedure public."Do It"`;
  for (const { function_definition } of saved) await sql.unsafe(function_definition);
  expect([...await definitions()]).toEqual(live);
});

test("indexes are kept as statements that make them again", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create extension if not exists plpgsql;
    create table public.t (id int primary key, name text, tags text[], at timestamptz, n int, unique (name, n));
    create index expression on public.t ((lower(name) || 'it''s'), n desc nulls last);
    create index "Partial; Index" on public.t (at) where name is not null and n > 0;
    create unique index included on public.t (n) include (name, at);
    create unique index nulls_alike on public.t (at) nulls not distinct;
    create index tags on public.t using gin (tags) with (fastupdate = off);
    create index patterns on public.t (name text_pattern_ops, name collate "C" desc);
    create index hashed on public.t using hash (name);
    create table public.other (id int);
    create index not_saved on public.other (id);
  `);
  await backUp(sql, "v1", { tables: ["t"] });
  const definitions = () =>
    sql`select indexname::text as index_name, tablename::text as table_name, indexdef as index_definition
      from pg_indexes where schemaname = 'public' and tablename = 't' order by 1`;
  const live = [...await definitions()];
  const saved = await sql`
    select index_name, table_name, index_definition from migration_backup_v1.indexes_backup order by 1`;
  expect([...saved]).toEqual(live);
  expect(saved).toHaveLength(9);

  await sql`alter table public.t drop constraint t_pkey, drop constraint t_name_n_key`;
  for (const { indexname } of await sql`select indexname from pg_indexes where tablename = 't'`) {
    await sql`drop index public.${sql(indexname)}`;
  }
  for (const { index_definition } of saved) await sql.unsafe(index_definition);
  expect([...await definitions()]).toEqual(live);
});

test("policies are kept as statements that make them again exactly", async ({ database: { sql, name } }) => {
  const role = `Odd "${name}" role`;
  await sql.unsafe(`
    create role ${quote(role)};
    create table public.t (id int primary key, owner uuid, name text, "Order" int);
    create table public.other (id int, owner uuid);
    create function public.is_mine(uuid) returns boolean language sql stable as $$ select $1 = auth.uid() $$;
    alter table public.t enable row level security;
    create policy plain on public.t;
    create policy "All of it; drop table t --" on public.t for all to public using (true) with check (false);
    create policy "it's restrictive" on public.t as restrictive for select to anon, authenticated, ${quote(role)}
      using (name ~ E'^\\\\d"''$' and "Order" > 0);
    create policy ins on public.t for insert to authenticated with check (public.is_mine(owner));
    create policy upd on public.t as restrictive for update using (public.is_mine(owner)) with check (id <> 0);
    create policy upd_using on public.t for update to service_role using (id = 1);
    create policy "${"Я".repeat(31)}" on public.t for delete to current_user using (exists (
      select 1 from public.other as o where o.id = t.id and o.owner = (select auth.uid())));
    create policy needs_function on public.other for select using (public.is_mine(owner));
    create policy not_saved on public.other for select using (true);
    create policy needs_table on public.other using (id in (select t.id from public.t));
  `);
  await backUp(sql, "v1", { tables: ["t"], functions: ["is_mine"] });
  const policies = async () => [
    ...await sql`select p.*, polname, pg_get_expr(polqual, polrelid) as qual_text, pg_get_expr(polwithcheck, polrelid) as check_text
      from pg_policies as p join pg_policy on polname = policyname order by tablename, policyname`,
  ];
  const before = await policies();
  const saved = await sql`select * from migration_backup_v1.policies_backup order by table_name, policy_name`;
  expect(saved.map(({ policy_name }) => policy_name).sort())
    .toEqual(before.map(({ policyname }) => policyname).filter((policy) => policy !== "not_saved").sort());

  for (const { table_name, policy_name } of saved) {
    await sql.unsafe(`drop policy ${quote(policy_name)} on public.${quote(table_name)}`);
  }
  expect(await policies()).toHaveLength(1);
  for (const { policy_definition } of saved) await sql.unsafe(policy_definition);
  expect(await policies()).toEqual(before);
});

test("row security does not make a copy shorter, for its owner who bypasses it", async ({ database: { sql } }) => {
  await sql`create table public.secrets as select n as id from generate_series(1, 5) as n`;
  await sql`alter table public.secrets enable row level security`;
  await sql`alter table public.secrets force row level security`;
  await sql`create policy few on public.secrets using (id = 1)`;
  await sql`set row_security = on`;
  await backUp(sql, "v1", { tables: ["secrets"] });
  expect(await sql`select from migration_backup_v1.secrets_backup`).toHaveLength(5);
  const [{ definition }] = await sql<[{ definition: string }]>`
    select settings[1] as definition from migration_backup_v1.objects_backup where kind = 'table'`;
  expect(definition).toBe("alter table public.secrets enable row level security, force row level security");
});

test("forced row security makes the backup fail where the worker may not bypass it", async ({ database }) => {
  const { sql, name } = database;
  const admin = database.connect("supabase_admin");
  await sql`create table public.secrets as select n as id from generate_series(1, 5) as n`;
  await sql`alter table public.secrets enable row level security`;
  await sql`alter table public.secrets force row level security`;
  await sql`create policy few on public.secrets using (id = 1)`;
  await admin.unsafe(`create role worker_${name} login password 'postgres' in role postgres nobypassrls`);
  const worker = database.connect(`worker_${name}`);
  expect(await worker`select * from public.secrets`).toHaveLength(1);

  await sql`select migration_guard.put_plan('v1', ${sql.json({ tables: ["secrets"] })}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v1', 'test')`;
  await expect(work(worker)).rejects.toMatchObject({
    code: "42501",
    message: expect.stringContaining("Jobs are run by postgres"),
  });
  // Foreign keys are checked as the owner of their tables, who stays who it was.
  await admin.unsafe(
    `alter schema migration_guard owner to worker_${name}; grant usage on schema migration_guard to postgres`,
  )
    .simple();
  await work(worker);
  expect((await lastJob(worker)).error).toMatchObject({ code: "insufficient_privilege" });
  expect(await sql`select to_regnamespace('migration_backup_v1') as schema`).toEqual([{ schema: null }]);
});

test("one table that may not be read makes the backup fail, says which, and nothing is left", async ({ database }) => {
  const { sql } = database;
  await sql`create table public.open as select 1 as id`;
  await database.connect("supabase_admin").unsafe(`
    create table public.closed (id int);
    revoke all on public.closed from postgres, anon, authenticated, service_role;
  `);
  await work(sql);
  const before = await everything(sql);
  const job = await tryBackUp(sql, "v1", { tables: ["open", "closed"] });
  expect(job).toMatchObject({ status: "failed", error: { code: "insufficient_privilege" }, result: null });
  expect(job.error!.message).toMatch(/closed/);
  expect(await everything(sql)).toEqual(before);
  expect(await sql`select from migration_guard.backups`).toHaveLength(0);
});

test("a schema that may not be entered makes the backup fail, and nothing is left", async ({ database }) => {
  const { sql } = database;
  const admin = database.connect("supabase_admin");
  await admin.unsafe("create schema closed; create table closed.t (id int); grant all on closed.t to postgres");
  await work(sql);
  const before = await everything(sql);
  const job = await tryBackUp(sql, "v1", { schema: "closed", tables: ["t"] });
  expect(job.error).toMatchObject({ code: "insufficient_privilege" });
  expect(job.error!.message).toMatch(/closed/);
  expect(await everything(sql)).toEqual(before);
});

test("a backup that cannot be finished leaves nothing behind", async ({ database }) => {
  const { sql } = database;
  await sql`create table public.a as select 1 as id`;
  await sql`create table public.b as select 1 as id`;
  await database.connect("supabase_admin").unsafe(`
    create function extensions.refuse() returns event_trigger language plpgsql as $$
    begin
      if exists (select from pg_event_trigger_ddl_commands() where object_identity ~ '[.]verify_tables') then
        raise exception 'no functions today';
      end if;
    end $$;
    create event trigger refuse on ddl_command_end execute function extensions.refuse();
  `);
  await work(sql);
  const before = await everything(sql);
  const job = await tryBackUp(sql, "v1", { tables: ["a", "b"] });
  expect(job).toMatchObject({ status: "failed", error: { code: "database_error" } });
  expect(job.error!.message).not.toMatch(/no functions today/);
  expect(await everything(sql)).toEqual(before);
  expect(await sql`select from migration_guard.backups`).toHaveLength(0);
});

test("a backup that exists is refused and never touched", async ({ example: { sql } }) => {
  await backUp(sql, "v10.0", examplePlan);
  const state = async () => [
    ...await sql`select c.oid, relname, relfilenode, c.xmin::text from pg_class as c
      where relnamespace = 'migration_backup_v10'::regnamespace order by relname`,
    ...await sql`select id, manifest, created_at from migration_guard.backups`,
    ...await sql`select * from migration_backup_v10.backup_metadata`,
  ];
  const before = await state();
  await sql`update public.profiles set name = 'changed since'`;
  for (const version of ["v10", "v10.0"]) {
    await expect(sql`select migration_guard.enqueue_backup(${version}, 'test')`)
      .rejects.toMatchObject({ code: "MG009", message: expect.stringContaining("migration_backup_v10") });
  }
  expect(await state()).toEqual(before);
  await expectOk(sql, "v10");
});

test("a schema that took a backup's name while its job was queued is not touched", async ({ example: { sql } }) => {
  await sql`select migration_guard.put_plan('v10.0', ${sql.json(examplePlan)}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v10.0', 'test')`;
  await sql`create schema migration_backup_v10`;
  await sql`create table migration_backup_v10.mine as select 1 as id`;
  await work(sql);
  expect((await lastJob(sql)).error).toMatchObject({ code: "backup_exists" });
  const left = await sql`select relname from pg_class where relnamespace = 'migration_backup_v10'::regnamespace`;
  expect([...left]).toEqual([{ relname: "mine" }]);
});

test("a schema that is no registered backup any more says so, and a backup is taken when it is out of the way", async ({ example: { sql } }) => {
  await backUp(sql, "v10", examplePlan);
  const enqueue = () => sql`select migration_guard.enqueue_backup('v10', 'test')`;
  await expect(enqueue()).rejects.toMatchObject({
    code: "MG009",
    message: expect.stringContaining("go on with that backup"),
  });
  await sql`alter schema migration_backup_v10 rename to elsewhere`;
  await sql`select migration_guard.delete_plan('v10')`;
  await sql`alter schema elsewhere rename to migration_backup_v10`;
  await sql`select migration_guard.put_plan('v10', ${sql.json(examplePlan)}, 'test')`;
  await expect(enqueue()).rejects.toMatchObject({
    code: "MG009",
    message: expect.stringMatching(
      /^The schema migration_backup_v10 is there, and is no registered backup: .* drop it or rename it/,
    ),
  });
  await sql`alter schema migration_backup_v10 rename to elsewhere`;
  await backUp(sql, "v10", examplePlan);
  await expectOk(sql, "v10");
});

test("a migration whose objects are gone is refused, by name of what is missing", async ({ example: { sql } }) => {
  await sql`select migration_guard.put_plan('v10.0', ${sql.json(examplePlan)}, 'test')`;
  await sql`alter table public.coordinator_notes rename to curator_notes`;
  await sql`drop function public.is_coordinator(uuid) cascade`;
  await expect(sql`select migration_guard.enqueue_backup('v10.0', 'test')`).rejects.toMatchObject({
    code: "MG011",
    message: expect.stringMatching(/function is_coordinator\(uuid\), table coordinator_notes/),
  });
  expect(await sql`select to_regnamespace('migration_backup_v10') as schema`).toEqual([{ schema: null }]);
});

test("a migration that runs while its backup's job is queued makes that fail", async ({ example: { sql } }) => {
  await sql`select migration_guard.put_plan('v10.0', ${sql.json(examplePlan)}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v10.0', 'test')`;
  await sql`insert into supabase_migrations.schema_migrations (version, name) values ('20260101000000', 'v10.0_rename')`;
  await work(sql);
  expect((await lastJob(sql)).error).toMatchObject({ code: "migration_already_applied" });
  expect(await sql`select to_regnamespace('migration_backup_v10') as schema`).toEqual([{ schema: null }]);
});

/** A version, and how the CLI lists the migrations that have run. */
const listed: { version: string; list: { version: string; name: string | null }; refused: boolean }[] = [
  { version: "v10.0", list: { version: "20260101000000", name: "v10.0_coordinator_to_curator" }, refused: true },
  { version: "v10.0", list: { version: "20260101000000", name: "v10_coordinator_to_curator" }, refused: true },
  { version: "v10", list: { version: "20260101000000", name: "v10.0" }, refused: true },
  { version: "v10.0", list: { version: "v10", name: null }, refused: true },
  { version: "v10.0", list: { version: "10.0", name: null }, refused: true },
  { version: "v10.1", list: { version: "20260101000000", name: "v10.1_more" }, refused: true },
  { version: "20260101000000", list: { version: "20260101000000", name: "rename" }, refused: true },
  { version: "v10.1", list: { version: "20260101000000", name: "v10_1_more" }, refused: true },
  { version: "v10.0", list: { version: "20260101000000", name: "v10_0_rename" }, refused: true },
  { version: "v10.0", list: { version: "20260101000000", name: "v10_1_more" }, refused: false },
  { version: "v10.0", list: { version: "20260101000000", name: "v10.1_more" }, refused: false },
  { version: "v10.1", list: { version: "20260101000000", name: "v10.0_rename" }, refused: false },
  { version: "v1.0", list: { version: "20260101000000", name: "v10.0_rename" }, refused: false },
  { version: "v10.0", list: { version: "20260101000000", name: "v100_rename" }, refused: false },
  { version: "v10.0", list: { version: "20260101000000", name: "undo_v10.0_rename" }, refused: false },
  { version: "20260101000000", list: { version: "20260101000001", name: "rename" }, refused: false },
];

test.for(listed)(
  "where $list.version $list.name has run, refusing $version is $refused",
  async (row, { database: { sql } }) => {
    await sql`create table public.t (id int)`;
    await sql`select migration_guard.put_plan(${row.version}, ${sql.json({ tables: ["t"] })}, 'test')`;
    await sql`insert into supabase_migrations.schema_migrations (version, name) values (${row.list.version}, ${row.list.name})`;
    const enqueued = sql`select migration_guard.enqueue_backup(${row.version}, 'test')`;
    if (row.refused) await expect(enqueued).rejects.toMatchObject({ code: "MG011" });
    else expect(await enqueued).toHaveLength(1);
  },
);

test("an older list of migrations, without names, or none at all, is understood", async ({ database: { sql } }) => {
  await sql`create table public.t (id int)`;
  for (const version of ["v10.0", "20260101000000", "20260101000001"]) {
    await sql`select migration_guard.put_plan(${version}, ${sql.json({ tables: ["t"] })}, 'test')`;
  }
  await sql`alter table supabase_migrations.schema_migrations drop column name`;
  await sql`insert into supabase_migrations.schema_migrations (version) values ('20260101000000'), ('10.0')`;
  const enqueue = (version: string) => sql`select migration_guard.enqueue_backup(${version}, 'test')`;
  await expect(enqueue("20260101000000")).rejects.toMatchObject({ code: "MG011" });
  await expect(enqueue("v10.0")).rejects.toMatchObject({ code: "MG011" });
  await enqueue("20260101000001");
  await sql`drop schema supabase_migrations cascade`;
  await enqueue("20260101000000");
  await work(sql);
  expect(await sql`select status from migration_guard.jobs`).toEqual([{ status: "succeeded" }, {
    status: "succeeded",
  }]);
  expect(await sql`select from migration_backup_20260101000000.t_backup`).toHaveLength(0);
});
