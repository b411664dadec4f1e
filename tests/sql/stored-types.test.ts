import type postgres from "postgres";
import { expect } from "vitest";
import { backUp, verify } from "../support/backup.ts";
import { makeColumnTypes } from "../support/column-types.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { typesWithoutValues } from "../support/values.ts";

type StoredColumn = { name: string; type: string; stored_type: string };

/** A column type, what must exist before it can be used, and values of it. */
type Case = {
  what: string;
  before?: string;
  type: string;
  values: string[];
  /** The type that the backup keeps it as. */
  stored?: string;
  /** The first Postgres that has such values. */
  since?: number;
};

async function serverMajor(sql: postgres.Sql): Promise<number> {
  const [server] = await sql`select current_setting('server_version_num')::int / 10000 as major`;
  return server!.major;
}

const cases: Case[] = [
  {
    what: "text, with what quoting and encoding could break",
    type: "text",
    values: [`''`, `'Ёлка 🥗'`, `U&'Zoe\\0308'`, `E'a\\tb\\r\\nc\\\\d'`, `'it''s "$$" %s $1'`, `'NULL'`],
    stored: "text",
  },
  {
    what: "arrays, with lower bounds, nulls, dimensions and nothing in them",
    type: "text[]",
    values: [`'{}'`, `'[0:1]={a,b}'`, `'{{a,NULL},{"",NULL}}'`, `'[2:3][-1:0]={{a,"b,c"},{"{d}",NULL}}'`, `'{"NULL"}'`],
    stored: "text[]",
  },
  { what: "integer arrays", type: "int[]", values: [`'[-2147483648:-2147483647]={NULL,1}'`, `'{{1},{2}}'`] },
  {
    what: "jsonb",
    type: "jsonb",
    values: [`'null'`, `'{"a": 1.10, "b": [1e2, -0.0, 12345678901234567890.000000000001]}'`, `'"\\"\\\\ Ё"'`, `'{}'`],
  },
  { what: "json, with its spaces and repeated keys", type: "json", values: [`'{ "a" : 1,\n"a":2 }'`, `' null '`] },
  {
    what: "numeric, with its scale",
    type: "numeric",
    values: ["1", "1.0", "1.000", "-0.00", "'NaN'", "'Infinity'", "'-Infinity'", "1e-1000", "1e1000"],
  },
  { what: "numeric of a given scale", type: "numeric(10,4)", values: ["1", "'NaN'", "123456.7891"] },
  {
    what: "double precision",
    type: "float8",
    values: ["'-0'", "0", "'NaN'", "'-Infinity'", "5e-324", "0.1::float8 + 0.2::float8", "1.7976931348623157e308"],
  },
  { what: "real", type: "real", values: ["'-0'", "'NaN'", "'Infinity'", "1e-45", "16777216", "0.1"] },
  { what: "bytea", type: "bytea", values: [`''`, `'\\x00ff5c27'`, `'\\\\x41'`] },
  {
    what: "intervals",
    type: "interval",
    values: [
      `'-1 day +02:00'`,
      `'1 mon -1 day'`,
      `'-1 year -2 mons +3 days -04:05:06.000007'`,
      `'24:00'`,
      `'1 day'`,
    ],
  },
  { what: "infinite intervals", type: "interval", values: [`'infinity'`, `'-infinity'`], since: 17 },
  {
    what: "times with a zone",
    type: "timestamptz",
    values: [`'infinity'`, `'-infinity'`, `'0044-03-15 12:00+00 BC'`, `'2024-02-29 23:59:59.999999+13:45'`],
  },
  { what: "times of a given precision", type: "timestamptz(3)", values: [`'2024-02-29 23:59:59.9996+00'`] },
  { what: "timestamps", type: "timestamp", values: [`'infinity'`, `'294276-12-31 23:59:59.999999'`] },
  { what: "dates", type: "date", values: [`'-infinity'`, `'4713-01-01 BC'`, `'2024-02-29'`] },
  { what: "times of day with a zone", type: "timetz", values: [`'24:00:00+15:59:59'`, `'00:00-12'`] },
  { what: "padded characters", type: "char(5)", values: [`'a'`, `''`, `'Ё    '`], stored: "character(5)" },
  { what: "characters of no given length", type: "bpchar", values: [`'a  '`, `''`], stored: "bpchar" },
  { what: "varying characters", type: "varchar(3)", values: [`'a  '`, `'Ёжи'`], stored: "character varying(3)" },
  { what: "single bytes and names", type: `"char"`, values: [`'a'`, `''`, `'\\377'`] },
  { what: "bits", type: "bit(3)", values: [`b'101'`], stored: "bit(3)" },
  { what: "varying bits", type: "varbit", values: [`b''`, `b'0001'`] },
  { what: "money", type: "money", values: ["'-92233720368547758.08'", "1.005"] },
  { what: "network addresses", type: "inet", values: [`'::ffff:1.2.3.4/120'`, `'10.0.0.1/8'`] },
  { what: "shapes", type: "polygon", values: [`'((-0,1e-300),(1,2),(3,4))'`] },
  { what: "text search vectors", type: "tsvector", values: [`'fat:2B,4C rat:5A ''it''''s'''`, `''`] },
  { what: "text search queries", type: "tsquery", values: [`'fat & (rat | !cat:*A) <2> dog'`] },
  { what: "XML", type: "xml", values: [`'<a b="Ё">1 &lt; 2</a>'`, `'text only'`] },
  { what: "JSON paths", type: "jsonpath", values: [`'strict $.a[*] ? (@ > 1.10)'`] },
  { what: "OIDs", type: "oid", values: ["0", "4294967295"] },
  { what: "built-in ranges", type: "tstzrange", values: [`'empty'`, `'[2024-01-01 00:00+13:45,infinity)'`, `'(,)'`] },
  { what: "built-in multiranges", type: "nummultirange", values: [`'{}'`, `'{[1.0,1.00],(2,3.10)}'`] },
  {
    what: "enums",
    before: `create type kinds.level as enum ('low', 'Ё, "x"', '', 'NULL')`,
    type: "kinds.level",
    values: [`'low'`, `'Ё, "x"'`, `''`, `'NULL'`],
    stored: "text",
  },
  {
    what: "arrays of an enum",
    before: `create type kinds.level as enum ('low', 'Ё, "x"', '', 'NULL')`,
    type: "kinds.level[]",
    values: [`'{}'`, `'[0:1]={low,NULL}'`, `'{{"","NULL"},{"Ё, \\"x\\"",low}}'`],
    stored: "text",
  },
  {
    what: "domains over text",
    before: `create domain kinds.code as varchar(5) not null check (value <> 'x') default 'a'`,
    type: "kinds.code",
    values: [`''`, `'Ё  '`],
    stored: "character varying",
  },
  {
    what: "domains over padded characters",
    before: `create domain kinds.padded as char(5)`,
    type: "kinds.padded",
    values: [`'a'`, `''`],
    stored: "bpchar",
  },
  {
    what: "domains over numbers",
    before: `create domain kinds.price as numeric(5,2) check (value > 0)`,
    type: "kinds.price",
    values: ["1", "'NaN'", "999.99"],
    stored: "numeric",
  },
  {
    what: "domains over domains",
    before: `create domain kinds.count as int check (value >= 0);
      create domain kinds.small_count as kinds.count check (value < 10);
      create domain kinds.digit as kinds.small_count`,
    type: "kinds.digit",
    values: ["0", "9"],
    stored: "integer",
  },
  {
    what: "domains over arrays",
    before: `create domain kinds.path as text[] check (cardinality(value) > 0)`,
    type: "kinds.path",
    values: [`'[0:1]={a,NULL}'`],
    stored: "text[]",
  },
  {
    what: "arrays of domains",
    before: `create domain kinds.count as int check (value >= 0)`,
    type: "kinds.count[]",
    values: [`'{}'`, `'[0:1]={1,NULL}'`],
    stored: "text",
  },
  {
    what: "domains over arrays of domains",
    before: `create domain kinds.count as int; create domain kinds.counts as kinds.count[]`,
    type: "kinds.counts",
    values: [`'[0:1]={1,NULL}'`],
    stored: "text",
  },
  {
    what: "domains over enums",
    before: `create type kinds.level as enum ('low', 'high');
      create domain kinds.high_level as kinds.level check (value > 'low')`,
    type: "kinds.high_level",
    values: [`'high'`],
    stored: "text",
  },
  {
    what: "composites, a row of nulls and no row at all",
    before:
      `create type kinds.point3 as (x float8, dropped int, "Y" text, "when" timestamptz, "raw" bytea, "long" interval);
      alter type kinds.point3 drop attribute dropped`,
    type: "kinds.point3",
    values: [
      "row(null, null, null, null, null)",
      "row('-0', '', '-infinity', '\\x00', '-1 day +02:00')",
      `row(0.1::float8 + 0.2::float8, '(a,"b") \\ ', '2024-01-01 00:00:00.000001+13:45', '', '1 mon -1 day')`,
    ],
    stored: "text",
  },
  {
    what: "composites that hold an enum, arrays and composites",
    before: `create type kinds.level as enum ('low', 'Ё, "x"');
      create type kinds.inner_row as (level kinds.level, levels kinds.level[]);
      create type kinds.outer_row as (one kinds.inner_row, many kinds.inner_row[], n numeric)`,
    type: "kinds.outer_row",
    values: [
      "row(null, null, null)",
      "row(row(null, null), array[null, row('low', '{}')]::kinds.inner_row[], 'NaN')",
      `row(row('Ё, "x"', '[0:1]={low,NULL}'), '{}', 1.00)`,
    ],
    stored: "text",
  },
  {
    what: "arrays of composites",
    before: `create type kinds.pair as (a text, b int)`,
    type: "kinds.pair[]",
    values: ["'{}'", `array[null, row(null, null), row('a,"b"', 1)]::kinds.pair[]`],
    stored: "text",
  },
  {
    what: "domains over composites",
    before: `create type kinds.pair as (a text, b int); create domain kinds.checked_pair as kinds.pair`,
    type: "kinds.checked_pair",
    values: ["row(null, null)", "row('a', 1)"],
    stored: "text",
  },
  {
    what: "ranges that somebody defined",
    before: `create type kinds.float_range as range (subtype = float8, subtype_diff = float8mi)`,
    type: "kinds.float_range",
    values: ["'empty'", "'[-0,0.30000000000000004)'", "'(,)'"],
    stored: "text",
  },
  {
    what: "ranges and multiranges over an enum",
    before: `create type kinds.level as enum ('low', 'mid', 'high');
      create type kinds.levels as range (subtype = kinds.level, multirange_type_name = kinds.level_set)`,
    type: "kinds.level_set",
    values: ["'{}'", "'{[low,low],(mid,high]}'"],
    stored: "text",
  },
  {
    what: "citext",
    before: `create extension citext schema extensions`,
    type: "extensions.citext",
    values: [`'Ёлка'`, `''`],
    stored: "text",
  },
  {
    what: "arrays of citext",
    before: `create extension citext schema extensions`,
    type: "extensions.citext[]",
    values: [`'[0:1]={A,NULL}'`],
    stored: "text",
  },
  {
    what: "hstore",
    before: `create extension hstore schema extensions`,
    type: "extensions.hstore",
    values: [`'a=>NULL, "b c"=>"\\"d\\"", ""=>"NULL"'`, `''`],
    stored: "text",
  },
  {
    what: "text of a collation that somebody made",
    before: `create collation kinds.numeric_order (provider = icu, locale = 'de-u-kn-true', deterministic = false)`,
    type: `text collate kinds.numeric_order`,
    values: [`'ß10'`, `'SS9'`],
    stored: "text",
  },
  {
    what: "arrays of a collation that somebody made",
    before: `create collation kinds.copied from "C"`,
    type: `varchar(9)[] collate kinds.copied`,
    values: [`'[0:1]={a,NULL}'`],
    stored: "character varying(9)[]",
  },
  {
    what: "domains with a collation that somebody made",
    before: `create collation kinds.copied from "C"; create domain kinds.word as text collate kinds.copied`,
    type: `kinds.word`,
    values: [`'a'`],
    stored: "text",
  },
];

/** What a session may have set. */
const settings = {
  timezone: "Pacific/Chatham",
  datestyle: "SQL, DMY",
  intervalstyle: "sql_standard",
  extra_float_digits: "-15",
  bytea_output: "escape",
  quote_all_identifiers: "on",
  search_path: "kinds, public, extensions",
  client_encoding: "LATIN1",
  xmlbinary: "hex",
  xmloption: "document",
  array_nulls: "off",
  transform_null_equals: "on",
  default_transaction_isolation: "serializable",
};

async function setOddly(sql: postgres.Sql): Promise<void> {
  for (const [name, value] of Object.entries(settings)) await sql`select set_config(${name}, ${value}, false)`;
}

/** Everything that a table with a column of each case needs; types of different cases that share a name are one. */
async function prepare(database: TestDatabase, statements: string[]): Promise<void> {
  const admin = database.connect("supabase_admin");
  await database.sql`create schema kinds`;
  for (const statement of statements) {
    await (statement.startsWith("create extension") ? admin : database.sql).unsafe(statement);
  }
}

/** How many rows a copied table has, and those that differ from its source when cast back to their recorded types. */
async function compareWithSource(sql: postgres.Sql, schema: string, table: string) {
  const [copy] = await sql<{ backup_table: string; columns: StoredColumn[] }[]>`
    select backup_table, columns from ${sql(schema)}.tables_backup where source_table = ${table}`;
  const names = copy!.columns.map(({ name }) => sql`r.${sql(name)}`);
  const casts = copy!.columns.map(({ name, type }) => sql`r.${sql(name)}::${sql.unsafe(type)}`);
  const list = (parts: postgres.Fragment[]) => parts.reduce((all, part) => sql`${all}, ${part}`);
  const source = sql`select record_send(row(${list(names)})) from public.${sql(table)} as r`;
  const back = sql`select record_send(row(${list(casts)})) from ${sql(schema)}.${sql(copy!.backup_table)} as r`;
  const [counts] = await sql<{ rows: number; missing: number; unknown: number }[]>`
    select (select count(*)::int from (${source}) as s) as rows,
      (select count(*)::int from (${source} except all ${back}) as s) as missing,
      (select count(*)::int from (${back} except all ${source}) as s) as unknown`;
  return counts!;
}

/** What objects in a schema depend on elsewhere, read from pg_depend without the product's help. */
function dependencies(sql: postgres.Sql, schema: string): Promise<{ object: string; on: string }[]> {
  return sql`
    with relations as (select oid from pg_class where relnamespace = ${schema}::regnamespace),
    members as (
      select 'pg_class'::regclass as classid, oid as objid from relations
      union all select 'pg_type'::regclass, oid from pg_type where typnamespace = ${schema}::regnamespace
      union all select 'pg_proc'::regclass, oid from pg_proc where pronamespace = ${schema}::regnamespace
      union all select 'pg_constraint'::regclass, oid from pg_constraint where connamespace = ${schema}::regnamespace
      union all select 'pg_rewrite'::regclass, oid from pg_rewrite where ev_class in (select oid from relations)
      union all select 'pg_attrdef'::regclass, oid from pg_attrdef where adrelid in (select oid from relations)
      union all select 'pg_trigger'::regclass, oid from pg_trigger where tgrelid in (select oid from relations)
      union all select 'pg_policy'::regclass, oid from pg_policy where polrelid in (select oid from relations)
    )
    select distinct pg_describe_object(d.classid, d.objid, d.objsubid) as object,
      pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) as on
    from pg_depend as d
    join members as m on (m.classid, m.objid) = (d.classid, d.objid)
    where (d.refclassid, d.refobjid) not in (select classid, objid from members)
      and (d.refclassid, d.refobjid) <> ('pg_namespace'::regclass, ${schema}::regnamespace)
      and d.refclassid <> 'pg_language'::regclass
    order by 1, 2`;
}

async function failing(sql: postgres.Sql, version: string) {
  return [...await verify(sql, version)].filter(([, check]) => check.status !== "OK");
}

test.for(cases)(
  "come back exactly: $what",
  async ({ before, type, values, stored, since = 15 }, { database, skip }) => {
    const { sql } = database;
    skip(await serverMajor(sql) < since, `they came with Postgres ${since}`);
    await prepare(database, before ? [before] : []);
    await sql.unsafe(`create table public.things (id int generated always as identity, value ${type})`);
    for (const value of [...values, ...(before?.includes("not null") ? [] : ["null"])]) {
      await sql.unsafe(`insert into public.things (value) values (${value})`);
    }

    await backUp(sql, "v1", { tables: ["things"] });

    const rows = values.length + (before?.includes("not null") ? 0 : 1);
    expect(await compareWithSource(sql, "migration_backup_v1", "things")).toEqual({ rows, missing: 0, unknown: 0 });
    expect(await dependencies(sql, "migration_backup_v1")).toEqual([]);
    expect(await failing(sql, "v1")).toEqual([]);
    if (stored) {
      const [column] = await sql`
      select format_type(atttypid, atttypmod) as type from pg_attribute
      where attrelid = 'migration_backup_v1.things_backup'::regclass and attname = 'value'`;
      expect(column).toEqual({ type: stored });
    }
  },
);

test("types without a binary form come back", async ({ database: { sql } }) => {
  await sql`create domain public.right_of as aclitem`;
  await sql`create table public.rights (one aclitem, many aclitem[], checked public.right_of)`;
  await sql`insert into public.rights values
    ('postgres=r*w/postgres', '[0:1]={=r/postgres,NULL}', 'anon=a/postgres'), (null, '{}', null)`;
  await backUp(sql, "v1", { tables: ["rights"] });
  const source = await sql`select one::text, many::text, checked::text from public.rights order by 1`;
  const back = await sql`
    select one::aclitem::text, many::aclitem[]::text, checked::public.right_of::text
    from migration_backup_v1.rights_backup order by 1`;
  expect([...back]).toEqual([...source]);
  expect(await failing(sql, "v1")).toEqual([]);
});

test("generated and identity columns are copied as values, which nothing generates anew", async ({ database: { sql } }) => {
  await sql`create table public.orders (
    always int generated always as identity (start 100),
    by_default int generated by default as identity,
    serial serial,
    net numeric, gross numeric generated always as (net * 1.20) stored,
    random float8 default random()
  )`;
  await sql`insert into public.orders (net) values (1.00), (2.5), (null)`;
  await sql`insert into public.orders (always, by_default, net) overriding system value values (1, 77, -1)`;
  await backUp(sql, "v1", { tables: ["orders"] });
  const copy = await sql`select * from migration_backup_v1.orders_backup order by always`;
  expect([...copy]).toEqual([...await sql`select * from public.orders order by always`]);
  expect(copy.map(({ always }) => always)).toEqual([1, 100, 101, 102]);
  const inserted = await sql`insert into migration_backup_v1.orders_backup (net) values (9) returning *`;
  expect([...inserted]).toEqual([
    { always: null, by_default: null, serial: null, net: "9", gross: null, random: null },
  ]);
  await sql`drop table public.orders`;
});

test("a column that was dropped is not in the copy, one that was added later is", async ({ database: { sql } }) => {
  await sql`create table public.things (a int, dropped text, b text)`;
  await sql`insert into public.things values (1, 'gone', 'x'), (2, 'gone', null)`;
  await sql`alter table public.things drop column dropped`;
  await sql`alter table public.things add column c text default 'late'`;
  await backUp(sql, "v1", { tables: ["things"] });
  expect([...await sql`select * from migration_backup_v1.things_backup order by a`]).toEqual([
    { a: 1, b: "x", c: "late" },
    { a: 2, b: null, c: "late" },
  ]);
  expect(await compareWithSource(sql, "migration_backup_v1", "things")).toEqual({ rows: 2, missing: 0, unknown: 0 });
});

test("columns may be named as anything", async ({ database: { sql } }) => {
  const names = [
    ...["r", "t", "o", "m", "c", "s", "e", "x", "value", "key", "wanted", "source", "things", "record_send", "row"],
    ...["select", "table", "order", "user", "all", "oid", "count", "null", "Mixed Case", "a.b", 'say "hi"', "it's"],
    ...["a;b--", "%I", "%1$s", "$1", "\\", " ", "new\nline", "ёлка", "Я".repeat(31), "a".repeat(63)],
  ];
  const quoted = names.map((name) => `"${name.replaceAll('"', '""')}"`);
  await sql.unsafe(`create table public.things (${quoted.map((name) => `${name} text`).join(", ")})`);
  await sql.unsafe(`insert into public.things values (${names.map((_, index) => `'${index}'`).join(", ")})`);
  await sql`insert into public.things default values`;
  await backUp(sql, "v1", { tables: ["things"] });
  const copy = await sql`select * from migration_backup_v1.things_backup`;
  expect(Object.keys(copy[0]!)).toEqual(names);
  expect([...copy]).toEqual([...await sql`select * from public.things`]);
  expect(await failing(sql, "v1")).toEqual([]);
});

test("neither who takes nor who reads a backup can change it by their session's settings", async ({ database }) => {
  const { sql } = database;
  const major = await serverMajor(sql);
  const usable = cases.filter(({ before, since = 15 }) => !before?.includes("not null") && since <= major);
  await prepare(database, [...new Set(usable.filter(({ type }) => type.includes("extensions")).map((c) => c.before!))]);
  let number = 0;
  const tables: string[] = [];
  for (const { before, type, values } of usable) {
    const table = `things_${++number}`;
    const own = `kinds_${number}`;
    const ownTypes = (text: string) => text.replaceAll("kinds.", `${own}.`);
    await sql.unsafe(`create schema ${own}`);
    if (before && !before.includes("create extension")) await sql.unsafe(ownTypes(before));
    await sql.unsafe(`create table public.${table} (value ${ownTypes(type)})`);
    for (const value of values) await sql.unsafe(`insert into public.${table} values (${ownTypes(value)})`);
    tables.push(table);
  }
  const odd = database.connect();
  await setOddly(odd);

  await backUp(sql, "v1", { tables });
  await backUp(odd, "v2", { tables });

  const checksums = (schema: string) =>
    sql`select source_table, row_count, source_checksum, backup_checksum, columns
      from ${sql(schema)}.tables_backup order by source_table`;
  expect([...await checksums("migration_backup_v2")]).toEqual([...await checksums("migration_backup_v1")]);
  for (const reader of [sql, odd]) {
    for (const version of ["v1", "v2"]) {
      expect(await failing(reader, version)).toEqual([]);
      const own = await reader`select * from ${
        reader(`migration_backup_${version}`)
      }.verify_backup_integrity() where status <> 'OK'`;
      expect([...own]).toEqual([]);
    }
  }
  for (const table of tables) {
    const same = { rows: expect.any(Number), missing: 0, unknown: 0 };
    expect(await compareWithSource(sql, "migration_backup_v2", table), table).toEqual(same);
  }
});

test("nothing that happens to types, collations or schemas outside reaches a backup", async ({ database }) => {
  const { sql } = database;
  await prepare(database, [
    "create extension citext schema extensions",
    "create type kinds.level as enum ('low', 'high')",
    "create type kinds.pair as (a text, level kinds.level)",
    "create domain kinds.count as int check (value >= 0)",
    "create type kinds.levels as range (subtype = kinds.level)",
    'create collation kinds.copied from "C"',
    "create sequence kinds.numbers",
    "create function kinds.next() returns int language sql as $$ select nextval('kinds.numbers')::int $$",
  ]);
  await sql`create table public.things (
    id serial primary key, level kinds.level, levels kinds.level[], pair kinds.pair, count kinds.count,
    counts kinds.count[], range kinds.levels, email extensions.citext, word text collate kinds.copied,
    number int default kinds.next(), "like" extensions.citext collate kinds.copied
  )`;
  await sql`insert into public.things (level, levels, pair, count, counts, range, email, word)
    values ('low', '{low,high}', row('a', 'high'), 1, '{1,2}', '[low,high]', 'A@b', 'x'), (null, null, null, null, null, null, null, null)`;
  const kept = sql`select * from migration_backup_v1.things_backup order by id`;
  await backUp(sql, "v1", { tables: ["things"] });
  const before = [...await kept];

  const outside = (await dependencies(sql, "public")).map(({ on }) => on);
  expect(outside).toEqual(
    expect.arrayContaining(["type kinds.level", "collation kinds.copied", "function kinds.next()"]),
  );
  expect(await dependencies(sql, "migration_backup_v1")).toEqual([]);

  await sql`alter type kinds.level rename value 'low' to 'lowest'`;
  await sql`alter type kinds.level rename to degree`;
  expect(await failing(sql, "v1")).toEqual([]);
  await sql`drop type kinds.degree cascade`;
  await sql`drop sequence public.things_id_seq cascade`;
  await sql`drop schema kinds cascade`;
  await database.connect("supabase_admin")`drop extension citext cascade`;
  await sql`drop table public.things`;

  expect([...await sql`select * from migration_backup_v1.things_backup order by id`]).toEqual(before);
  expect(before[0]).toMatchObject({ level: "low", levels: "{low,high}", pair: "(a,high)", email: "A@b" });
  expect(await failing(sql, "v1")).toEqual([]);
});

test("a name that a column holds by OID is the name of the time of the backup", async ({ database: { sql } }) => {
  await sql`create type public.mood as enum ('sad')`;
  await sql`create table public.target (id int)`;
  await sql`create table public.t as select 'public.target'::regclass as c, '{public.mood}'::regtype[] as ts`;
  await backUp(sql, "v1", { tables: ["t"] });
  await sql`alter table public.target rename to goal`;
  await sql`drop type public.mood`;
  expect(await sql`select * from migration_backup_v1.t_backup`).toEqual([{ c: "public.target", ts: "{public.mood}" }]);
});

const columnList = (names: string[], each: (name: string, index: number) => string) => names.map(each).join(", ");

test("values of every type that this server has come back exactly", async ({ database }) => {
  const { sql } = database;
  const admin = database.connect("supabase_admin");
  const types = await makeColumnTypes(admin);
  const names = types.map((_, index) => `c${index}`);
  const rows = Math.max(...types.map(({ count }) => count)) + 1;
  await admin.unsafe(`
    create table public.everything (id int primary key, ${columnList(names, (name, i) => `${name} ${types[i]!.type}`)});
    insert into public.everything (id) select generate_series(1, ${rows});
    alter table public.everything owner to postgres;
    grant usage on schema kinds to postgres`);
  for (const [index, { valuesTable }] of types.entries()) {
    await admin.unsafe(`update public.everything set c${index} = (select v from ${valuesTable} where i = id)`);
  }

  await backUp(sql, "v1", { tables: ["everything"] });

  expect(await failing(sql, "v1")).toEqual([]);
  expect(await dependencies(sql, "migration_backup_v1")).toEqual([]);
  const texts = (table: string, expression: (name: string, index: number) => string) =>
    admin.unsafe(`select ${columnList(names, (name, index) => `format('%s', ${expression(name, index)}) as ${name}`)}
      from ${table} order by id`);
  const source = [...await texts("public.everything", (name) => name)];
  const copy = "migration_backup_v1.everything_backup";
  expect([...await texts(copy, (name) => name)]).toEqual(source);
  expect([...await texts(copy, (name, index) => `${name}::${types[index]!.type}`)]).toEqual(source);
  const [nulls] = await admin.unsafe(
    `select ${
      columnList(names, (name) => `count(*) filter (where num_nulls(${name}) = 0)::int as ${name}`)
    } from ${copy}`,
  );
  expect(Object.values(nulls!)).toEqual(types.map(({ count }) => count));
});

test("types of which SQL can make no value have columns of nulls, which come back", async ({ database: { sql } }) => {
  for (const type of typesWithoutValues) {
    await expect(sql.unsafe(`select ''::${type}`), type).rejects.toThrow(
      /cannot accept a value of type|not implemented/,
    );
  }
  await sql.unsafe(
    `create table public.nulls (id int, ${typesWithoutValues.map((type) => `${type} ${type}`).join(", ")})`,
  );
  await sql`insert into public.nulls values (1), (2)`;
  await backUp(sql, "v1", { tables: ["nulls"] });
  expect([...await sql`select * from migration_backup_v1.nulls_backup order by id`])
    .toEqual([...await sql`select * from public.nulls order by id`]);
  expect(await failing(sql, "v1")).toEqual([]);
});

test("virtual generated columns are copied as the values that they had", async ({ database: { sql }, skip }) => {
  skip(await serverMajor(sql) < 18, "virtual generated columns came with Postgres 18");
  await sql`create table public.orders (net numeric, gross numeric generated always as (net * 1.20) virtual, note text)`;
  await sql`insert into public.orders (net, note) values (1.00, 'a'), (2.5, 'b'), (null, 'c')`;
  await backUp(sql, "v1", { tables: ["orders"] });
  expect([...await sql`select * from migration_backup_v1.orders_backup order by note`]).toEqual([
    { net: "1.00", gross: "1.2000", note: "a" },
    { net: "2.5", gross: "3.000", note: "b" },
    { net: null, gross: null, note: "c" },
  ]);
  await sql`drop table public.orders`;
  expect(await failing(sql, "v1")).toEqual([]);
});

test("values that are kept out of line come back, and one changed byte of them is noticed", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.files (id int, plain text, packed text, raw bytea, doc jsonb, parts text[]);
    alter table public.files alter plain set storage external, alter raw set storage external;
    insert into public.files
    select i, t, t, convert_to(t, 'UTF8'), jsonb_build_object('t', t), array[t, t]
    from generate_series(1, 2) as i,
      lateral (select string_agg(md5(format('%s %s', i, n)), '') as t from generate_series(1, 40000) as n) as x`);
  await backUp(sql, "v1", { tables: ["files"] });
  const [size] = await sql`select pg_column_size(plain) as plain from migration_backup_v1.files_backup limit 1`;
  expect(size!.plain).toBe(1_280_000);
  expect(await compareWithSource(sql, "migration_backup_v1", "files")).toEqual({ rows: 2, missing: 0, unknown: 0 });
  expect(await failing(sql, "v1")).toEqual([]);
  for (
    const change of [
      "plain = overlay(plain placing 'X' from 1000000)",
      "raw = set_byte(raw, 999999, 88)",
      "parts[2] = overlay(parts[2] placing 'X' from 1000000)",
      "doc = jsonb_set(doc, '{t}', to_jsonb(overlay(doc ->> 't' placing 'X' from 1000000)))",
    ]
  ) {
    await sql`begin`;
    await sql.unsafe(`update migration_backup_v1.files_backup set ${change} where id = 2`);
    const checks = await sql`select check_name from migration_backup_v1.verify_tables() where status = 'FAIL'`;
    await sql`rollback`;
    expect([...checks], change).toEqual([{ check_name: "table public.files" }]);
  }
});

test("of 1,600 columns of many types each comes back, and a change in any is noticed", async ({ database: { sql } }) => {
  const types = ["int8", "numeric", "timestamptz", "text", "bytea", "bool", "text[]", "uuid"];
  const names = Array.from({ length: 1600 }, (_, index) => `c${index}`);
  await sql.unsafe(
    `create table public.wide (${columnList(names, (name, i) => `${name} ${types[i % types.length]}`)})`,
  );
  await sql`insert into public.wide default values`;
  await sql`insert into public.wide (c0, c1, c3, c4, c1592, c1593, c1595, c1596) values
    (1, 1.0, 'a', '\\x00', -1, 1.00, 'z', '\\xff')`;
  await backUp(sql, "v1", { tables: ["wide"] });
  expect(await compareWithSource(sql, "migration_backup_v1", "wide")).toEqual({ rows: 2, missing: 0, unknown: 0 });
  expect(await failing(sql, "v1")).toEqual([]);
  const values = ["7", "7.0", "'2000-01-01Z'", "''", "''", "false", "'{}'", "'00000000-0000-0000-0000-000000000000'"];
  const copy = "migration_backup_v1.wide_backup";
  for (const index of [1, 2, 3, 4, 5, 6, 7, 8, 799, 1597, 1598, 1599]) {
    await sql.unsafe(`update ${copy} set c${index} = ${values[index % values.length]} where c0 is null`);
    const [table] = await sql`select status from migration_backup_v1.verify_tables()`;
    expect(table, `c${index}`).toEqual({ status: "FAIL" });
    await sql.unsafe(`update ${copy} set c${index} = null where c0 is null`);
  }
  expect(await failing(sql, "v1")).toEqual([]);
});
