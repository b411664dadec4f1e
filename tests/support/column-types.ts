import type postgres from "postgres";
import { catalogContents, catalogValues, typesOfOurOwn, typesWithoutValues, values } from "./values.ts";

/** A type that a column can have, and the table `kinds.values_of_N` (i int, v) with values of it that all differ. */
export type ColumnType = { type: string; name: string; valuesTable: string; count: number };

type Row = { type: string; name: string; element: string | null; element_name: string | null };

/** Makes the values of every type that this server lets a column have; throws where nobody thought of a type. */
export async function makeColumnTypes(superuser: postgres.Sql): Promise<ColumnType[]> {
  await superuser`create schema kinds`;
  for (const statement of [...typesOfOurOwn, ...catalogContents]) await superuser.unsafe(statement);
  // The row types of tables and views are left out, and what has such rows as its elements.
  const types = await superuser<Row[]>`
    select format_type(t.oid, -1) as type, t.typname as name,
      case when a.oid is not null then format_type(a.oid, -1) end as element, a.typname as element_name
    from pg_type as t
    left join pg_type as a on a.typarray = t.oid
    left join pg_class as c on c.oid in (t.typrelid, a.typrelid)
    where t.typtype <> 'p' and t.typisdefined and coalesce(c.relkind, 'c') = 'c'
      and coalesce(a.typtype, 'b') <> 'p'
      and t.typnamespace = any ('{pg_catalog,information_schema,kinds}'::regnamespace[])
    order by a.oid is not null, t.oid`;
  const made = new Map<string, ColumnType>();
  for (const [number, { type, name, element, element_name }] of types.entries()) {
    if (typesWithoutValues.includes(element_name ?? name)) continue;
    const valuesTable = `kinds.values_of_${number}`;
    await superuser.unsafe(`create table ${valuesTable} (i int generated always as identity, v ${type})`);
    const from = element ? made.get(element)?.valuesTable : undefined;
    await superuser.unsafe(`insert into ${valuesTable} (v) ${from ? arraysOf(type, from) : valuesOf(type, name)}`);
    const [count] = await superuser.unsafe(`
      select count(*)::int as count, count(distinct format('%s', v))::int as texts from ${valuesTable}`);
    if (count!.count < 2 || count!.count !== count!.texts) throw new Error(`the values of ${type} do not differ`);
    made.set(type, { type, name, valuesTable, count: count!.count });
  }
  return [...made.values()];
}

function valuesOf(type: string, name: string): string {
  if (name in catalogValues) return catalogValues[name]!;
  if (!(name in values)) throw new Error(`no values are known of the type ${type}: add some to values.ts`);
  return values[name]!.map((value) => `select '${value.replaceAll("'", "''")}'::${type}`).join(" union all ");
}

const arraysOf = (type: string, elements: string) => `
  select unnested.a from (select x.v as x, y.v as y from ${elements} as x, ${elements} as y where x.i = 1 and y.i = 2) as e
  cross join lateral (values
    ('{}'::${type}), (array[x]), (array[y]), (array[x, y]), (array[y, x]), (array[x, null]), (array[null, x]),
    ('{NULL}'), (array[[x], [y]]), (array[[x, y]]), (array_fill(x, array[1], array[0]))
  ) as unnested (a)`;
