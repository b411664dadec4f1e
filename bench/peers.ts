import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import type postgres from "postgres";
import { databaseUrl } from "../local/database-url.ts";
import { backupSchema } from "./jobs.ts";

/** Copies tables one after the other, as one does by hand: without parallel workers, each in a transaction of its own. */
export async function createTablesAs(sql: postgres.Sql, tables: string[]): Promise<void> {
  for (const table of tables) await sql.unsafe(`create table peer.${table} as table public.${table}`);
}

/** Counts the rows of tables, one after the other. Postgres has parallel workers do it where that pays. */
export async function countRows(sql: postgres.Sql, tables: string[]): Promise<void> {
  for (const table of tables) await sql.unsafe(`select count(*) from ${table}`);
}

/** The statements that find what one side has and the other has not, by rows as they are stored in the backup. */
export async function exceptAllQueries(sql: postgres.Sql): Promise<string[]> {
  const pairs = await sql<{ live: string; copy: string; live_columns: string; copy_columns: string }[]>`
    select format('%I.%I', t.source_schema, t.source_table) as live, format('%I.%I', ${backupSchema}::text, t.backup_table) as copy,
      string_agg(format('%I::%s', c.attname, format_type(c.atttypid, c.atttypmod)), ', ' order by c.attnum) as live_columns,
      string_agg(format('%I', c.attname), ', ' order by c.attnum) as copy_columns
    from ${sql(backupSchema)}.tables_backup as t
    join pg_attribute as c on c.attrelid = format('%I.%I', ${backupSchema}::text, t.backup_table)::regclass
    join pg_attribute as l on l.attrelid = t.source_oid and l.attname = c.attname and l.attnum > 0 and not l.attisdropped
    where c.attnum > 0 and not c.attisdropped
    group by t.source_schema, t.source_table, t.backup_table`;
  return pairs.flatMap(({ live, copy, live_columns, copy_columns }) => {
    const [ofLive, ofCopy] = [`select ${live_columns} from ${live}`, `select ${copy_columns} from ${copy}`];
    return [[ofLive, ofCopy], [ofCopy, ofLive]].map(([one, other]) =>
      `select count(*) from (${one} except all ${other}) as difference`
    );
  });
}

/** @throws When pg_dump fails: with what it wrote to standard error. */
export async function pgDump(options: {
  port: number;
  database: string;
  tables: string[];
  format: string[];
  file: string;
  signal: AbortSignal;
}): Promise<void> {
  const child = spawn("pg_dump", [
    ...options.format,
    ...options.tables.map((table) => `--table=${table}`),
    `--file=${options.file}`,
    `--dbname=${databaseUrl({ port: options.port, database: options.database })}`,
  ], {
    env: { PATH: process.env.PATH },
    stdio: ["ignore", "ignore", "pipe"],
    signal: options.signal,
  });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => errors += text);
  const [status] = await once(child, "close");
  if (status !== 0) throw new Error(`pg_dump failed:\n${errors}`);
}
