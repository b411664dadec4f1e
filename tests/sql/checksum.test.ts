import type postgres from "postgres";
import { expect } from "vitest";
import { type ColumnType, makeColumnTypes } from "../support/column-types.ts";
import { test } from "../support/database.ts";

/** A table of three columns: each cell is the number of a value, 0 is null. */
type Table = number[][];

type Mutation = { what: string; table: Table };

type StoredColumn = { name: string; stored_type: string; expression: string };

/** Makes the query that gives the checksum of what a query reads. */
type Algorithm = (sql: postgres.Sql, source: string, columns: StoredColumn[]) => Promise<string>;

const rowCount = 6;

/** The same numbers at every run, so that a failure can be seen again. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const change = (table: Table, edit: (copy: Table) => void): Table => {
  const copy = table.map((row) => [...row]);
  edit(copy);
  return copy;
};

/** Every change of one cell, every exchange of two cells, every row in another's place, and reorderings. */
function mutate(table: Table, valueCount: number, below: (n: number) => number): Mutation[] {
  const cells = table.flatMap((row, r) => row.map((_, c) => [r, c] as const));
  const rows = table.map((_, r) => r);
  const changed = cells.flatMap(([r, c]) =>
    [...Array(valueCount + 1).keys()].filter((value) => value !== table[r]![c]).map((value) => ({
      what: `row ${r}, column ${c} becomes ${value}`,
      table: change(table, (copy) => void (copy[r]![c] = value)),
    }))
  );
  const swapped = cells.flatMap(([r, c], n) =>
    cells.slice(n + 1).map(([r2, c2]) => ({
      what: `(${r}, ${c}) and (${r2}, ${c2}) change places`,
      table: change(table, (copy) => void ([copy[r]![c], copy[r2]![c2]] = [table[r2]![c2]!, table[r]![c]!])),
    }))
  );
  const replaced = rows.flatMap((r) =>
    rows.filter((other) => other !== r).map((other) => ({
      what: `row ${r} is there twice, row ${other} is gone`,
      table: change(table, (copy) => void (copy[other] = [...table[r]!])),
    }))
  );
  const counted = rows.flatMap((r) => [
    { what: `row ${r} is there twice`, table: [...table, table[r]!] },
    { what: `row ${r} is there three times`, table: [...table, table[r]!, table[r]!] },
    { what: `row ${r} is gone`, table: table.filter((_, other) => other !== r) },
  ]);
  const reordered = rows.map(() => ({
    what: "the rows are in another order",
    table: rows.map((r) => ({ r, at: below(1e6) })).sort((a, b) => a.at - b.at).map(({ r }) => table[r]!),
  }));
  return [...changed, ...swapped, ...replaced, ...counted, ...reordered];
}

/** The same for tables that have the same rows, in whatever order. */
const content = (table: Table) => table.map((row) => row.join(",")).sort().join(";");

const productAlgorithm: Algorithm = async (sql, source, columns) => {
  const [row] = await sql<{ query: string }[]>`
    select migration_guard.checksum_query(${source}, ${columns.map(({ name }) => name)},
      ${columns.map(({ stored_type }) => stored_type)}::regtype[]::oid[]) as query`;
  return row!.query;
};

/** The checksum of each table, whose columns are of one type, in the form in which a backup stores them. */
async function checksums(
  sql: postgres.Sql,
  type: ColumnType,
  tables: Table[],
  algorithm: Algorithm,
): Promise<string[]> {
  const rows = tables.flatMap((table, n) => table.map((row) => [n, ...row]));
  const column = (n: number) => rows.map((row) => row[n]!);
  await sql.unsafe(`drop table if exists kinds.mutated`);
  await sql.unsafe(`create table kinds.mutated (n int, a ${type.type}, b ${type.type}, c ${type.type})`);
  await sql`
    insert into kinds.mutated
    select r.n, a.v, b.v, c.v
    from unnest(${column(0)}::int[], ${column(1)}::int[], ${column(2)}::int[], ${column(3)}::int[])
      with ordinality as r (n, a, b, c, place)
    left join ${sql.unsafe(type.valuesTable)} as a on a.i = r.a
    left join ${sql.unsafe(type.valuesTable)} as b on b.i = r.b
    left join ${sql.unsafe(type.valuesTable)} as c on c.i = r.c
    order by r.place`;
  await sql`create index on kinds.mutated (n)`;
  await sql`analyze kinds.mutated`;
  const columns = await sql<StoredColumn[]>`
    select name, stored_type, expression from migration_guard.stored_columns('kinds.mutated'::regclass)
    where name <> 'n' order by attnum`;
  const source = `select ${columns.map(({ name, expression }) => `${expression} as ${name}`).join(", ")}
    from kinds.mutated where n = tested.n`;
  const found = await sql.unsafe<{ checksum: string }[]>(`
    select result.checksum from generate_series(0, ${tables.length - 1}) as tested (n)
    cross join lateral (${await algorithm(sql, source, columns)}) as result (count, checksum) order by tested.n`);
  return found.map(({ checksum }) => checksum);
}

/** Mutates random tables of a type; tells how often, which mutations went unseen and which were seen in vain. */
async function tryMutations(sql: postgres.Sql, type: ColumnType, algorithm: Algorithm, seed: number) {
  const below = random(seed);
  const mutations: Mutation[] = [];
  for (let n = 0; n < 2; n++) {
    const table = [...Array(rowCount)].map(() => [0, 1, 2].map(() => below(type.count + 1)));
    mutations.push({ what: "nothing", table }, ...mutate(table, type.count, below));
  }
  const found = await checksums(sql, type, mutations.map(({ table }) => table), algorithm);
  const checksumOf = new Map<string, string>();
  const contentOf = new Map<string, string>();
  const missed: string[] = [];
  const raised: string[] = [];
  for (const [n, { what, table }] of mutations.entries()) {
    const report = `${type.type}: ${what}: ${content(table)}`;
    if ((checksumOf.get(content(table)) ?? found[n]) !== found[n]) raised.push(report);
    if ((contentOf.get(found[n]!) ?? content(table)) !== content(table)) missed.push(report);
    checksumOf.set(content(table), found[n]!);
    contentOf.set(found[n]!, content(table));
  }
  return { mutations: mutations.length - 2, missed, raised };
}

test("of 100,000 mutations of tables of every type, none is missed and none falsely seen", async ({ database }) => {
  const sql = database.connect("supabase_admin");
  const types = await makeColumnTypes(sql);
  let mutations = 0;
  for (const [number, type] of types.entries()) {
    const result = await tryMutations(sql, type, productAlgorithm, number + 1);
    expect(result, type.type).toMatchObject({ missed: [], raised: [] });
    mutations += result.mutations;
  }
  expect(types.map(({ type }) => type)).toEqual(
    expect.arrayContaining(["jsonb", "kinds.pair[]", "point", "tstzrange"]),
  );
  expect(mutations).toBeGreaterThanOrEqual(100_000);
}, 300_000);

test("a sum of Postgres's own record hashes would miss exchanges between rows, and what equality takes for equal", async ({ database }) => {
  const sql = database.connect("supabase_admin");
  const types = await makeColumnTypes(sql);
  const plainSum: Algorithm = (_, source) =>
    Promise.resolve(`select count(*), sum(hash_record_extended(r, 0))::text from (${source}) as r`);
  const find = async (name: string) =>
    (await tryMutations(sql, types.find(({ type }) => type === name)!, plainSum, 1)).missed;
  expect(await find("text")).toEqual(expect.arrayContaining([expect.stringMatching(/change places/)]));
  expect(await find("numeric")).toEqual(expect.arrayContaining([expect.stringMatching(/becomes/)]));
});

test("a checksum is computed in parallel, and is the same when it is not", async ({ database: { sql } }) => {
  await sql`
    create table public.readings as
    select n as id, n::bigint * 4294967297 as big, md5(n::text) as note, n / 7.0 as value, now() + n * interval '1 s' as at,
      array[n, null] as pair, jsonb_build_object('n', n) as doc, n % 2 = 0 as even, md5(n::text)::uuid as key
    from generate_series(1, 20000) as n`;
  await sql`analyze public.readings`;
  const [{ query }] = await sql<[{ query: string }]>`
    select migration_guard.source_checksum_query('public.readings'::regclass) as query`;
  const [serial] = await sql.unsafe(query);
  for (const setting of ["min_parallel_table_scan_size", "parallel_setup_cost", "parallel_tuple_cost"]) {
    await sql`select set_config(${setting}, '0', false)`;
  }
  const plan = (await sql.unsafe(`explain (analyze, costs off) ${query}`)).map((line) => line["QUERY PLAN"]).join("\n");
  expect(plan).toMatch(/Workers Planned: [1-9]/);
  expect(plan).toMatch(/Parallel Seq Scan on readings/);
  expect((await sql.unsafe(query))[0]).toEqual(serial);
  await sql`set max_parallel_workers_per_gather = 0`;
  expect((await sql.unsafe(query))[0]).toEqual(serial);
});

test("a checksum is the same on every major version, so that one that was upgraded can still verify", async ({ database: { sql } }) => {
  await sql.unsafe(`
    create table public.kept as
    select n as id, n::bigint * -4294967297 as big, n::smallint as small, n % 2 = 0 as even, 'Ё' || n as name, n / 7.0 as value,
      (n / 3.0)::float8 as ratio, (n / 3.0)::real as rough, md5(n::text)::uuid as key, decode(md5(n::text), 'hex') as raw,
      timestamptz '2026-01-01 UTC' + n * interval '1 hour' as at, date '2026-01-01' + n as day, n * interval '25 hours' as took,
      jsonb_build_object('n', n, 'x', 1.00) as doc, '{"a" : 1}'::json as text, array[n, null]::int[] as pair,
      '[2:3]={1,2}'::int[] as bounds, int4range(1, n + 1) as span, point(n, -0.0) as place, n::bit(8) as bits, n::money as price,
      inet '10.0.0.0/8' as net, to_tsvector('simple', 'a b') as words, null::text as nothing
    from generate_series(1, 100) as n`);
  const [{ query }] = await sql<[{ query: string }]>`
    select migration_guard.source_checksum_query('public.kept'::regclass) as query`;
  await sql`set lc_monetary = 'C'`;
  const [row] = await sql.unsafe(query);
  expect(Object.values(row!)[1]).toBe("100:95002934728330793761:-57965130599312388095");
});
