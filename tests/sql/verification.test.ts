import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, lastJob, verify, work } from "../support/backup.ts";
import { test } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";

/** A small app with an object of every kind, and its backup. */
async function backUpSmallApp(sql: postgres.Sql): Promise<void> {
  // A value that was added can be used when that is committed.
  await sql`create type public.mood as enum ('sad', 'happy')`;
  await sql`alter type public.mood add value 'fine' before 'happy'`;
  await sql.unsafe(`
    create table public.people (
      id int primary key, name text, nickname text, mood public.mood, score numeric(5,2) check (score >= 0)
    );
    insert into public.people values
      (1, 'Аня', 'a', 'sad', 1.00), (2, 'Boris', null, 'fine', 2.50), (3, '', 'c', null, null), (4, 'Dan', 'd', 'happy', 4);
    create table public.pets (id int primary key, owner int references public.people, name text);
    insert into public.pets values (1, 1, 'Rex');
    create index people_by_name on public.people (lower(name));
    create function public.rank(p_id int) returns text language sql stable
      as $$ select mood::text from public.people where id = p_id $$;
    create function public.touch() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger touch before update on public.people for each row execute function public.touch();
    alter table public.people enable row level security;
    create policy "own row" on public.people for select to authenticated using (nickname = current_user);
    create policy "no deletes" on public.people as restrictive for delete to anon, authenticated using (false);
  `);
  await backUp(sql, "v1.0", { tables: ["people", "pets"], enums: ["mood"], functions: ["rank"] });
}

type Check = { check_name: string; status: string; details: string };

/** What the backup's own function says. */
const verifyBackupIntegrity = (sql: postgres.Sql) =>
  sql<Check[]>`select * from migration_backup_v1.verify_backup_integrity()`;

const failing = (checks: Map<string, { status: string }>) =>
  [...checks].filter(([, { status }]) => status !== "OK").map(([name]) => name).sort();

/** What the checks of an untouched backup of the small app are called. */
const allChecks = [
  ...["catalogs", "closed", "columns", "constraints", "contents", "default_privileges", "enum_values", "enums"],
  ...[
    "functions",
    "indexes",
    "manifest",
    "metadata",
    "named catalogs",
    "policies",
    "registered manifest",
    "schemas",
    "stands alone",
  ],
  ...["table public.people", "table public.pets", "tables", "triggers", "verification"],
];

const editManifest = ["manifest", "registered manifest"];

type Damage = {
  what: string;
  /** Statements that do the damage; `S` stands for the backup's schema. */
  statements: string;
  /** Exactly the checks that must fail. */
  fails: string[];
  /** What the first of them must say. */
  says: RegExp;
};

const damages: Damage[] = [
  {
    what: "a changed row",
    statements: "update S.people_backup set name = 'Anya' where id = 1",
    fails: ["table public.people"],
    says: /^expected 4 rows with checksum \S+, found 4 rows with checksum \S+$/,
  },
  {
    what: "a value that was null",
    statements: "update S.people_backup set nickname = '' where id = 2",
    fails: ["table public.people"],
    says: /expected 4 rows .* found 4 rows/,
  },
  {
    what: "a number's scale",
    statements:
      "update S.people_backup set score = 1.0::numeric where id = 1; alter table S.people_backup alter score type numeric; update S.people_backup set score = 1.0 where id = 1",
    fails: ["table public.people"],
    says:
      /^expected columns of the types \["integer", "text", "text", "text", "numeric\(5,2\)"\], found .*"numeric"\]$/,
  },
  {
    what: "a removed row",
    statements: "delete from S.people_backup where id = 3",
    fails: ["table public.people"],
    says: /expected 4 rows .* found 3 rows/,
  },
  {
    what: "an added row",
    statements: "insert into S.pets_backup values (2, 1, 'Rex')",
    fails: ["table public.pets"],
    says: /expected 1 rows .* found 2 rows/,
  },
  {
    what: "a row that is there twice",
    statements: "insert into S.people_backup select * from S.people_backup where id = 1",
    fails: ["table public.people"],
    says: /expected 4 rows .* found 5 rows/,
  },
  {
    what: "a row in another's place",
    statements:
      "delete from S.people_backup where id = 2; insert into S.people_backup select * from S.people_backup where id = 1",
    fails: ["table public.people"],
    says: /expected 4 rows .* found 4 rows/,
  },
  {
    what: "values that changed places between two rows",
    statements: `update S.people_backup as a set name = b.name from S.people_backup as b
      where (a.id, b.id) in ((1, 2), (2, 1))`,
    fails: ["table public.people"],
    says: /expected 4 rows .* found 4 rows/,
  },
  {
    what: "values that changed places within a row",
    statements: "update S.people_backup set name = nickname, nickname = name where id = 1",
    fails: ["table public.people"],
    says: /expected 4 rows .* found 4 rows/,
  },
  {
    what: "an emptied table",
    statements: "truncate S.people_backup",
    fails: ["table public.people"],
    says: /expected 4 rows .* found 0 rows/,
  },
  {
    what: "a dropped table",
    statements: "drop table S.people_backup",
    fails: ["table public.people", "contents"],
    says: /^expected the table people_backup: it is gone$/,
  },
  {
    what: "a column more",
    statements: "alter table S.people_backup add column extra int",
    fails: ["table public.people"],
    says: /expected the columns .*"score"\], found .*"score", "extra"\]/,
  },
  {
    what: "a column less",
    statements: "alter table S.people_backup drop column nickname",
    fails: ["table public.people"],
    says: /expected the columns .*"nickname".*, found/,
  },
  {
    what: "columns that changed names",
    statements: `alter table S.people_backup rename name to x; alter table S.people_backup rename nickname to name;
      alter table S.people_backup rename x to nickname`,
    fails: ["table public.people"],
    says: /expected the columns \["id", "name", "nickname", .*found \["id", "nickname", "name"/,
  },
  {
    what: "a column of another type",
    statements: "alter table S.people_backup alter id type bigint",
    fails: ["table public.people"],
    says: /^expected columns of the types \["integer", .*found \["bigint"/,
  },
  {
    what: "a function text edited through functions_backup",
    statements: "update S.functions_backup set function_definition = replace(function_definition, 'mood', 'name')",
    fails: ["functions", ...editManifest],
    says: /^expected 2, found 1 as recorded; changed: public\.rank\(p_id integer\)$/,
  },
  {
    what: "a function text edited in objects_backup, with its checksum",
    statements:
      `update S.objects_backup set definition = 'x', checksum = encode(sha256('x'), 'hex') where kind = 'function'`,
    fails: ["functions", ...editManifest],
    says: /changed: public\.rank/,
  },
  {
    what: "a function's recorded checksum",
    statements: "update S.objects_backup set checksum = 'x' where kind = 'function'",
    fails: ["functions", ...editManifest],
    says: /changed: public\.rank/,
  },
  {
    what: "a missing policy",
    statements: `delete from S.policies_backup where policy_name = 'own row'`,
    fails: ["policies", "metadata", ...editManifest],
    says: /^expected 2, found 1 as recorded; missing: "own row" on public\.people$/,
  },
  {
    what: "an extra policy",
    statements:
      `insert into S.objects_backup select (jsonb_populate_record(o, '{"objid": 1, "name": "all", "identity": "\\"all\\" on public.people"}')).*
      from S.objects_backup as o where name = 'own row'`,
    fails: ["policies", "metadata", ...editManifest],
    says: /^expected 2, found 2 as recorded; unexpected: "all" on public\.people$/,
  },
  {
    what: "no policy at all",
    statements: `delete from S.objects_backup where kind = 'policy'`,
    fails: ["policies", "metadata", ...editManifest],
    says: /^expected 2, found 0 as recorded; missing: .*; missing: /,
  },
  {
    what: "an edited index",
    statements: `update S.indexes_backup set index_definition = replace(index_definition, 'lower', 'upper')
      where index_name = 'people_by_name'`,
    fails: ["indexes", ...editManifest],
    says: /^expected 3, found 2 as recorded; changed: public\.people_by_name$/,
  },
  {
    what: "an edited column",
    statements: "update S.objects_backup set definition = replace(definition, '(5,2)', '(6,2)') where name = 'score'",
    fails: ["columns", ...editManifest],
    says: /^expected 8, found 7 as recorded; changed: public\.people\.score$/,
  },
  {
    what: "an edited constraint",
    statements:
      "update S.objects_backup set definition = replace(definition, '0', '1') where kind = 'constraint' and definition ~ 'score'",
    fails: ["constraints", ...editManifest],
    says: /changed: people_score_check on public\.people/,
  },
  {
    what: "an edited trigger",
    statements:
      "update S.objects_backup set definition = replace(definition, 'UPDATE', 'DELETE') where kind = 'trigger'",
    fails: ["triggers", ...editManifest],
    says: /^expected 1, found 0 as recorded; changed: touch on public\.people$/,
  },
  {
    what: "row security said to be off",
    statements: `update S.objects_backup set settings[1] = replace(settings[1], 'enable', 'disable')
      where kind = 'table' and name = 'people'`,
    fails: ["tables", ...editManifest],
    says: /^expected 2, found 1 as recorded; changed: public\.people$/,
  },
  {
    what: "an edited enum",
    statements: "update S.objects_backup set definition = replace(definition, 'fine', 'good') where kind = 'enum'",
    fails: ["enums", ...editManifest],
    says: /^expected 1, found 0 as recorded; changed: public\.mood$/,
  },
  {
    what: "another order of enum values",
    statements: "update S.mood_enum_backup set enum_sort_order = 3 where enum_value = 'fine'",
    fails: ["enum_values", ...editManifest],
    says: /^expected 3, found 2 as recorded; changed: public\.mood\.fine$/,
  },
  {
    what: "a missing enum value",
    statements: "delete from S.mood_enum_backup where enum_value = 'fine'",
    fails: ["enum_values", "metadata", ...editManifest],
    says: /^expected 3, found 2 as recorded; missing: public\.mood\.fine$/,
  },
  {
    what: "an object's name",
    statements: "update S.objects_backup set name = 'x', parent_name = 'y' where name = 'people_by_name'",
    fails: ["manifest", "registered manifest"],
    says: /^expected \w{64}, found \w{64}$/,
  },
  {
    what: "an object's identity in the catalog",
    statements: "update S.objects_backup set objid = 1 where name = 'people_by_name'",
    fails: ["manifest", "registered manifest"],
    says: /^expected \w{64}, found \w{64}$/,
  },
  {
    what: "a table that tables_backup forgot",
    statements: "delete from S.tables_backup where source_table = 'pets'",
    fails: ["metadata", ...editManifest],
    says: /^expected 2 tables, 5 rows, .*; found 1, 4, /,
  },
  {
    what: "a checksum in tables_backup",
    statements: "update S.tables_backup set source_checksum = '0:0', backup_checksum = '0:0'",
    fails: ["manifest", "registered manifest"],
    says: /^expected \w{64}, found \w{64}$/,
  },
  {
    what: "emptied metadata",
    statements: "truncate S.backup_metadata",
    fails: [
      "metadata",
      ...["columns", "constraints", "default_privileges", "enum_values", "enums", "functions", "indexes", "policies"],
      ...["schemas", "tables", "triggers"],
      ...["manifest", "registered manifest", "table public.people", "table public.pets"],
    ],
    says: /^expected 1 row in backup_metadata, found 0$/,
  },
  {
    what: "metadata of two backups",
    statements:
      `insert into S.backup_metadata select (jsonb_populate_record(m, jsonb_build_object('backup_id', gen_random_uuid()))).*
      from S.backup_metadata as m`,
    fails: ["metadata", "manifest", "registered manifest"],
    says: /^expected 1 row in backup_metadata, found 2$/,
  },
  {
    what: "an owner",
    statements: "update S.objects_backup set owner = 'anon' where kind = 'table' and name = 'pets'",
    fails: ["tables", ...editManifest],
    says: /changed: public\.pets$/,
  },
  {
    what: "a comment",
    statements: "update S.objects_backup set comment = 'x' where kind = 'schema'",
    fails: ["schemas", ...editManifest],
    says: /changed: public$/,
  },
  {
    what: "a privilege",
    statements: "update S.objects_backup set grants = '{}' where kind = 'schema'",
    fails: ["schemas", ...editManifest],
    says: /changed: public$/,
  },
  {
    what: "a default privilege",
    statements:
      "update S.objects_backup set definition = replace(definition, 'anon', 'public') where kind = 'default_privilege'",
    fails: ["default_privileges", ...editManifest],
    says: /changed: for role/,
  },
  {
    what: "what the plan covers",
    statements: "update S.objects_backup set in_plan = false where kind = 'trigger'",
    fails: ["manifest", "registered manifest"],
    says: /^expected \w{64}, found \w{64}$/,
  },
  {
    what: "a dependency",
    statements: "delete from S.dependencies_backup",
    fails: ["manifest", "registered manifest"],
    says: /^expected \w{64}, found \w{64}$/,
  },
  {
    what: "the name of the checksum's algorithm",
    statements: "update S.backup_metadata set checksum_algorithm = 'md5'",
    fails: ["manifest", "registered manifest", "table public.people", "table public.pets"],
    says: /^expected \w{64}, found \w{64}$/,
  },
  ...["tables", "functions", "indexes", "policies", "enums", "objects", "rows"].map((counted) => ({
    what: `a changed count of ${counted}`,
    statements: `update S.backup_metadata set ${counted}_backed_up = ${counted}_backed_up + 1`,
    fails: ["metadata", ...editManifest],
    says: /^expected .* tables, .*; found 2, 5, 1, 3, 2, 1, \d+$/,
  })),
  {
    what: "a description that somebody rewrote",
    statements: "update S.backup_metadata set description = 'nothing of note', actor = 'somebody else'",
    fails: ["manifest", "registered manifest"],
    says: /^expected \w{64}, found \w{64}$/,
  },
  {
    what: "a manifest that is not of this backup",
    statements: "update S.backup_metadata set manifest = repeat('0', 64)",
    fails: ["manifest"],
    says: /^expected 0{64}, found \w{64}$/,
  },
  {
    what: "a forgery with counts, checksums and manifest of its own",
    statements: `delete from S.pets_backup;
      update S.tables_backup set row_count = 0, backup_checksum = '0:0:0' where source_table = 'pets';
      update S.backup_metadata set rows_backed_up = 4, tables = jsonb_set(jsonb_set(tables,
        '{public.pets,row_count}', '0'), '{public.pets,checksum}', '"0:0:0"');
      update S.backup_metadata set manifest = S.compute_manifest()`,
    fails: ["registered manifest"],
    says: /^expected \w{64}, found \w{64}$/,
  },
  {
    what: "another manifest in the registry",
    statements: "update migration_guard.backups set manifest = repeat('0', 64)",
    fails: ["registered manifest"],
    says: /^expected 0{64}, found \w{64}$/,
  },
  {
    what: "a column of a type outside",
    statements: "alter table S.pets_backup alter name type public.mood using 'sad'",
    fails: ["stands alone", "table public.pets"],
    says: /^found column name of table migration_backup_v1\.pets_backup depends on type public\.mood$/,
  },
  {
    what: "a default that calls something outside",
    statements: "alter table S.pets_backup alter name set default public.rank(1)",
    fails: ["stands alone"],
    says: /depends on function public\.rank\(integer\)/,
  },
  {
    what: "a foreign key to something outside",
    statements: "alter table S.pets_backup add foreign key (owner) references public.people",
    fails: ["stands alone"],
    says: /depends on .*people/,
  },
  {
    what: "a verify function that always says OK",
    statements: `create or replace function S.verify_backup_integrity()
      returns table (check_name text, status text, details text) language sql as $$ select 'metadata', 'OK', 'fine' $$`,
    fails: ["verification"],
    says: /^expected functions with checksum \w{64}, found \w{64}$/,
  },
  {
    what: "a part of the verification that always says OK",
    statements: `create or replace function S.verify_tables()
      returns table (check_name text, status text, details text) language sql as $$ select 'table public.people', 'OK', '' $$`,
    fails: ["verification"],
    says: /^expected functions with checksum \w{64}, found \w{64}$/,
  },
  {
    what: "a function of somebody else",
    statements: "create function S.helper() returns int language sql as 'select 1'",
    fails: ["verification"],
    says: /^expected functions with checksum \w{64}, found \w{64}$/,
  },
  {
    what: "a dropped verify function",
    statements: "drop function S.verify_backup_integrity()",
    fails: ["verification"],
    says: /^expected functions with checksum \w{64}, found \w{64}$/,
  },
  {
    what: "a view that shows other functions than were saved",
    statements: `create or replace view S.functions_backup as select name as function_name,
      'create function x()'::text as function_definition, backed_up_at from S.objects_backup where kind = 'function'`,
    fails: ["named catalogs"],
    says: /^functions_backup shows something else than was recorded$/,
  },
  {
    what: "a view in the place of a catalog, which tells the worker what it wants to hear",
    statements: `alter table S.objects_backup rename to kept;
      create view S.objects_backup as select * from S.kept;
      do $$ declare definition text; begin
        definition := pg_get_functiondef('S.shell_definition'::regproc);
        drop function S.shell_definition(S.kept);
        execute replace(definition, 'S.kept', 'S.objects_backup');
        revoke all on function S.shell_definition from public;
        revoke all on type S.objects_backup from public;
      end $$`,
    fails: ["catalogs", "contents"],
    says: /^expected plain tables, without heirs, rules, triggers or row security: objects_backup$/,
  },
  {
    what: "a column whose type says otherwise what the same bytes mean",
    statements: "alter table S.people_backup alter name type varchar",
    fails: ["table public.people"],
    says: /^expected columns of the types .*, found .*"character varying"/,
  },
  {
    what: "something of somebody else",
    statements: "create table S.mine (id int)",
    fails: ["contents", "closed"],
    says: /^unexpected table migration_backup_v1\.mine$/,
  },
  {
    what: "a trigger on a catalog",
    statements:
      `create trigger quiet before update on S.tables_backup for each row execute function suppress_redundant_updates_trigger()`,
    fails: ["catalogs"],
    says: /tables_backup$/,
  },
  {
    what: "a dropped view of the policies",
    statements: "drop view S.policies_backup",
    fails: ["named catalogs", "contents"],
    says: /^policies_backup is gone$/,
  },
  {
    what: "a dropped schema",
    statements: "drop schema S cascade",
    fails: ["verification"],
    says: /^expected functions with checksum \w{64}, found no schema$/,
  },
  {
    what: "somebody else's right to a copied table",
    statements: "grant select on S.tables_backup to anon",
    fails: ["closed"],
    says: /^found SELECT on table \S+tables_backup to anon/,
  },
  {
    what: "metadata of another form",
    statements: "update S.backup_metadata set tables = '[]'",
    fails: ["catalog", "registered manifest"],
    says: /^expected a backup that can be read/,
  },
  {
    what: "a dropped catalog",
    statements: "drop table S.tables_backup",
    fails: ["catalog", "registered manifest", "contents"],
    says: /^expected a backup that can be read: .*tables_backup/,
  },
  {
    what: "a catalog without one of its columns",
    statements: "alter table S.objects_backup rename checksum to hash",
    fails: ["catalog", "registered manifest"],
    says: /^expected a backup that can be read: .*checksum/,
  },
];

test("every check of an untouched backup says OK, to its own function and to the job", async ({ database: { sql } }) => {
  await backUpSmallApp(sql);
  const checks = await verify(sql, "v1");
  expect([...checks.keys()].sort()).toEqual(allChecks);
  expect(failing(checks)).toEqual([]);
  const own = await verifyBackupIntegrity(sql);
  const ownOnly = ["closed", "contents", "named catalogs", "registered manifest", "stands alone", "verification"];
  expect(own.map(({ check_name }) => check_name).sort()).toEqual(allChecks.filter((name) => !ownOnly.includes(name)));
  expect(own.filter(({ status }) => status !== "OK")).toEqual([]);
});

test("there is no check that none of these tests makes fail", () => {
  expect([...new Set(damages.flatMap(({ fails }) => fails))].sort()).toEqual([...allChecks, "catalog"].sort());
});

test.for(damages)("verification notices $what", async ({ statements, fails, says }, { database: { sql } }) => {
  await backUpSmallApp(sql);
  await sql.unsafe(
    statements.replaceAll("S.", "migration_backup_v1.").replace("schema S", "schema migration_backup_v1"),
  );
  const checks = await verify(sql, "v1.0");
  expect(failing(checks)).toEqual([...new Set(fails)].sort());
  expect(checks.get(fails[0]!)!.details).toMatch(says);
  const [backup] = await sql`select verified_ok from migration_guard.backups where version = 'v1.0'`;
  expect(backup).toEqual({ verified_ok: false });
});

test("a backup's own function notices damage by itself", async ({ database: { sql } }) => {
  await backUpSmallApp(sql);
  await sql`update migration_backup_v1.people_backup set name = 'Anya' where id = 1`;
  await sql`delete from migration_backup_v1.policies_backup`;
  const checks = await verifyBackupIntegrity(sql);
  const wrong = checks.filter(({ status }) => status === "FAIL").map(({ check_name }) => check_name).sort();
  expect(wrong).toEqual(["manifest", "metadata", "policies", "table public.people"]);
});

test("damage that was repaired is no damage", async ({ database: { sql } }) => {
  await backUpSmallApp(sql);
  await sql`create table public.kept as select * from migration_backup_v1.people_backup`;
  await sql`truncate migration_backup_v1.people_backup`;
  expect(failing(await verify(sql, "v1"))).toEqual(["table public.people"]);
  await sql`insert into migration_backup_v1.people_backup select * from public.kept order by id desc`;
  expect(failing(await verify(sql, "v1"))).toEqual([]);
  const [backup] = await sql`select verified_ok from migration_guard.backups where version = 'v1.0'`;
  expect(backup).toEqual({ verified_ok: true });
});

test("what happens to the live tables is no damage", async ({ database: { sql } }) => {
  await backUpSmallApp(sql);
  await sql.unsafe(`
    update public.people set name = 'x', mood = 'happy';
    delete from public.pets;
    drop policy "own row" on public.people;
    create or replace function public.rank(p_id int) returns text language sql as $$ select 'first' $$;
    alter type public.mood rename value 'sad' to 'blue';
    drop index public.people_by_name;
    alter table public.people drop column score;
    drop table public.pets;
  `);
  expect(failing(await verify(sql, "v1"))).toEqual([]);
});

const sessions: Record<string, string>[] = [
  { timezone: "Pacific/Chatham", datestyle: "SQL, DMY", intervalstyle: "iso_8601", extra_float_digits: "-15" },
  { client_encoding: "KOI8R", bytea_output: "escape", xmloption: "document" },
  { client_encoding: "LATIN1" },
  { client_encoding: "SQL_ASCII" },
  { quote_all_identifiers: "on", search_path: "migration_backup_v1, public", standard_conforming_strings: "off" },
  { default_transaction_isolation: "serializable", default_transaction_read_only: "on", transform_null_equals: "on" },
  { row_security: "on", array_nulls: "off", backslash_quote: "off", plan_cache_mode: "force_generic_plan" },
  {
    debug_parallel_query: "regress",
    min_parallel_table_scan_size: "0",
    parallel_setup_cost: "0",
    client_encoding: "KOI8R",
  },
];

test.for(sessions)("a verification says the same in a session with %o", async (settings, { database }) => {
  const { sql } = database;
  await backUpSmallApp(sql);
  const expected = (await verifyBackupIntegrity(sql)).map((check) => ({ ...check }));
  expect(expected.filter(({ status }) => status !== "OK")).toEqual([]);

  const odd = database.connect();
  // Before 16 it went by another name.
  const hasNewName = (await odd`select from pg_settings where name = 'debug_parallel_query'`).length > 0;
  const known = Object.entries(settings).map(([name, value]) =>
    [name === "debug_parallel_query" && !hasNewName ? "force_parallel_mode" : name, value] as const
  );
  for (const [name, value] of known) await odd`select set_config(${name}, ${value}, false)`;
  expect([...await verifyBackupIntegrity(odd)]).toEqual(expected);
  const checks = await odd`select c.check_name, c.status
    from migration_guard.backups as b, migration_guard.integrity_checks(b) as c`;
  expect(checks.filter(({ status }) => status !== "OK")).toEqual([]);
  // A function's settings end with it.
  for (const [name, value] of known) {
    expect(await odd`select current_setting(${name}) as value`).toEqual([{ value }]);
  }
});

test("whoever may read a backup can verify it without the product", async ({ database }) => {
  await backUpSmallApp(database.sql);
  await database.sql`drop schema migration_guard_api cascade`;
  await database.sql`drop schema migration_guard cascade`;
  const checks = await verifyBackupIntegrity(database.connect());
  expect(checks.filter(({ status }) => status !== "OK")).toEqual([]);
  expect(checks.length).toBeGreaterThan(10);
});

test("a row that another session is about to change is verified as it was committed", async ({ example }) => {
  await backUp(example.sql, "v10.0", examplePlan);
  const other = example.connect();
  await other`begin`;
  await other`delete from migration_backup_v10.profiles_backup`;
  expect(failing(await verify(example.sql, "v10"))).toEqual([]);
  await other`commit`;
  expect(failing(await verify(example.sql, "v10"))).toEqual(["table public.profiles"]);
});

const manifestOf = async (sql: postgres.Sql): Promise<string> => {
  const [{ manifest }] = await sql<[{ manifest: string }]>`select manifest from migration_backup_v1.backup_metadata`;
  return manifest;
};

test("a backup's job returns the manifest, and a verification holds against one that was noted", async ({ database: { sql } }) => {
  await backUpSmallApp(sql);
  const { result: { manifest } } = await lastJob(sql);
  expect(manifest).toBe(await manifestOf(sql));

  const verifyNoted = async (noted: string) => {
    await sql`select migration_guard.enqueue_verification('v1', 'test', null, ${noted})`;
    await work(sql);
    return (await lastJob(sql)).result as { ok: boolean; checks: { check_name: string; status: string }[] };
  };
  const right = await verifyNoted(manifest as string);
  expect(right.ok).toBe(true);
  expect(right.checks).toContainEqual(expect.objectContaining({ check_name: "expected manifest", status: "OK" }));
  const wrong = await verifyNoted("0".repeat(64));
  expect(wrong.ok).toBe(false);
  expect(wrong.checks.filter(({ status }) => status !== "OK")).toEqual([
    {
      check_name: "expected manifest",
      status: "FAIL",
      details: `expected ${
        "0".repeat(64)
      }, found ${manifest}: the note is wrong, or this is not the backup that it is of`,
    },
  ]);
  await expect(sql`select migration_guard.enqueue_verification('v1', 'test', null, 'abc')`)
    .rejects.toMatchObject({ code: "MG003" });
});

test("a forgery that is registered, too, does not stand against the manifest that was noted outside", async ({ database: { sql } }) => {
  await backUpSmallApp(sql);
  const noted = await manifestOf(sql);
  await sql`delete from migration_backup_v1.objects_backup where kind = 'trigger'`;
  await sql`update migration_backup_v1.backup_metadata set objects = objects - 'trigger', objects_backed_up = objects_backed_up - 1`;
  await sql`update migration_backup_v1.backup_metadata set manifest = migration_backup_v1.compute_manifest()`;
  await sql`update migration_guard.backups set manifest = (select manifest from migration_backup_v1.backup_metadata)`;
  expect(failing(await verify(sql, "v1"))).toEqual([]);
  await sql`select migration_guard.enqueue_verification('v1', 'test', null, ${noted})`;
  await work(sql);
  expect((await lastJob(sql)).result).toMatchObject({ ok: false, failed: 1 });
});

/** Makes a backup say that another major version of Postgres took it. */
const pretendMajor = async (sql: postgres.Sql, version: string) => {
  await sql`update migration_backup_v1.backup_metadata set server_version = ${version}`;
  await sql`update migration_backup_v1.backup_metadata set manifest = migration_backup_v1.compute_manifest()`;
  await sql`update migration_guard.backups set manifest = (select manifest from migration_backup_v1.backup_metadata)`;
};

test("under another major version the rows are read again, and what differs is not called damage for sure", async ({ database: { sql } }) => {
  await backUpSmallApp(sql);
  await pretendMajor(sql, "14.2");
  const same = await verify(sql, "v1");
  expect(failing(same)).toEqual([]);
  expect(same.get("table public.people")!.details).toMatch(/computed again by Postgres \d+, recorded by 14$/);
  await sql`update migration_backup_v1.people_backup set name = 'x' where id = 1`;
  const other = await verify(sql, "v1");
  expect(failing(other)).toEqual(["table public.people"]);
  expect(other.get("table public.people")!.details).toMatch(
    /^recorded by Postgres 14 .* it cannot tell damage from a server that hashes otherwise$/,
  );
});

test.for(["people_backup", "objects_backup", "backup_metadata"])(
  "a verification waits for a lock on %s no longer than the lock timeout, and says which session holds it",
  async (table, { database }) => {
    const { sql } = database;
    await backUpSmallApp(sql);
    const other = database.connect();
    const [{ pid }] = await other<[{ pid: number }]>`select pg_backend_pid() as pid`;
    await other`set application_name = 'night shift'`;
    await other`begin`;
    await other.unsafe(`lock table migration_backup_v1.${table} in access exclusive mode`);
    const says = expect.stringMatching(
      new RegExp(
        `migration_backup_v1\\.${table} is locked by session ${pid} \\(postgres, night shift, for \\d+ seconds\\)`,
      ),
    );

    const reader = database.connect();
    await reader`set lock_timeout = '200ms'`;
    await expect(verifyBackupIntegrity(reader)).rejects.toMatchObject({ code: "55P03", message: says });
    await expect(reader`select * from migration_guard_api.get_checklist('v1')`)
      .rejects.toMatchObject({ code: "MG020", message: says });
    // Nobody knows whether the backup is whole, so that nothing is said of it.
    const [backup] = await sql`select verified_ok from migration_guard.backups`;
    expect(backup).toEqual({ verified_ok: null });
    await other`rollback`;
    expect(failing(await verify(sql, "v1"))).toEqual([]);
  },
);

test("a verification job that meets a locked backup fails with the session in the way", async ({ database }) => {
  const { sql } = database;
  await backUpSmallApp(sql);
  const other = database.connect();
  await other`begin`;
  await other`lock table migration_backup_v1.pets_backup in access exclusive mode`;
  await sql`select migration_guard.enqueue_verification('v1', 'test')`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({
    status: "failed",
    error: { code: "backup_locked", message: expect.stringMatching(/pets_backup is locked by session \d+/) },
  });
  await other`rollback`;
});
