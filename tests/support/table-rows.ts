import type postgres from "postgres";

/** Every row of a schema's tables, as text: the table, how often the row is there, and its values. */
export async function tableRows(sql: postgres.Sql, schema: string): Promise<string[]> {
  const [query] = await sql<[{ text: string | null }]>`
    select string_agg(format(
      'select format(''%%s: %%s of %%s'', %L, count(*), to_jsonb(t)) as line from %s%I.%I as t group by to_jsonb(t)',
      c.relname, case c.relkind when 'r' then 'only ' else '' end, n.nspname, c.relname), ' union all ' order by c.relname) as text
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relkind in ('r', 'p') and not c.relispartition`;
  if (query.text === null) return [];
  const rows = await sql.unsafe<{ line: string }[]>(query.text);
  return rows.map(({ line }) => line).sort();
}
