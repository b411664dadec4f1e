// `npm run bench:profile`: what the jobs of `npm run bench` spend their time on, as Postgres tells it.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import type postgres from "postgres";
import { connect } from "../local/database.ts";
import { superuser } from "../local/postgres.ts";
import { backupSchema, dropBackup, type Kind, queueJob, version } from "./jobs.ts";
import { markdownTable } from "./markdown-table.ts";
import { fillTables, type OwnDatabase, startOwnDatabase } from "./own-database.ts";
import { serverSettings } from "./settings.ts";
import { step } from "./step.ts";
import { wholeNumber } from "./whole-number.ts";

const help =
  `Prints what limits the jobs: of a backup, a verification and a diff the steps, with the time that each took, what a backup
reads and writes, by pg_stat_io (from Postgres 16 on), and the plan and the costs of each query on the largest table, by
explain (analyze, buffers, wal); of a rollback that puts 1 % of the rows back its statements; and of that and of a backup of
20,000 objects without rows the time in each function, by pg_stat_user_functions. Starts a Postgres of its own in a
temporary folder, and removes it.

  npm run bench:profile                     with 2000000 rows
  npm run bench:profile -- --rows=200000    with so many`;

const read = (...path: string[]) => readFileSync(join(import.meta.dirname, ...path), "utf8");
const plan = JSON.parse(read("..", "examples", "coordinator-to-curator", "plan.json"));
const options = readOptions();
const folder = mkdtempSync(join(tmpdir(), "migration-guard-bench-"));
let own: OwnDatabase | undefined;
let cleaning: Promise<void> | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => cleanUp().then(() => process.exit(1)));
}

try {
  step("Starting Postgres");
  own = await startOwnDatabase({ folder, settings: serverSettings, onRemovable: (database) => own = database });
  step(`Filling the tables with ${options.rows} rows`);
  await fillTables(own, options.rows);
  await profile(own);
} catch (error) {
  if (!cleaning) console.error(error);
  process.exitCode = 1;
} finally {
  await cleanUp();
}

async function profile(database: OwnDatabase) {
  const admin = connect({ ...database, user: superuser });
  const worker = connect(database);
  const watcher = connect(database);
  try {
    await worker`select migration_guard.put_plan(${version}, ${worker.json(plan)}, 'bench')`;
    // Not what the first reader of new rows does for all others.
    for (const table of plan.tables) await worker.unsafe(`select count(*) from public.${table}`);
    await profileJob("backup", { admin, worker, watcher });
    await profileJob("verify", { admin, worker, watcher });
    await profileJob("diff", { admin, worker, watcher });
    for (const { title, query } of await queries(worker)) await explain(title, query, { admin, worker });
    await compareCompression({ admin, worker });
    // For the sessions that come after this.
    await admin`alter database postgres set track_functions = 'all'`;
    await profileRestore(database, { admin, worker });
    await dropBackup(worker);
    await profileCatalog(database, { admin, worker });
  } finally {
    await Promise.all([admin, worker, watcher].map((sql) => sql.end()));
  }
}

type Sessions = { admin: postgres.Sql; worker: postgres.Sql; watcher: postgres.Sql };

/** Runs a job, and prints its steps and what it has read and written. */
async function profileJob(kind: Kind, { admin, worker, watcher }: Sessions) {
  step(`Running ${kind}`);
  const job = await queueJob([worker], kind);
  await admin`checkpoint`;
  if (await hasStatistics(admin)) await admin`select pg_stat_reset_shared('io')`;
  const begun = performance.now();
  let isOver = false;
  const running = job.run().finally(() => isOver = true);
  const steps: { step: string; from: number }[] = [];
  while (!isOver) {
    const [shown] = await watcher<{ step: string }[]>`
      select regexp_replace(split_part(application_name, '/', 5), '[+@][0-9+]*$', '') as step
      from pg_stat_activity where application_name like 'migration_guard/%/%/%/%'`;
    if (shown && steps.at(-1)?.step !== shown.step) steps.push({ step: shown.step, from: performance.now() });
  }
  await running;
  const ended = performance.now();
  await job.result();
  console.log(`\n### ${kind}: ${Math.round(ended - begun)} ms\n`);
  const times = new Map([["before the first step", (steps[0]?.from ?? ended) - begun]]);
  for (const [n, { step, from }] of steps.entries()) {
    times.set(step, (times.get(step) ?? 0) + (steps[n + 1]?.from ?? ended) - from);
  }
  console.log(markdownTable([["step", "ms"], ...[...times].map(([name, ms]) => [name, String(Math.round(ms))])]));
  if (await hasStatistics(admin)) await printInputAndOutput(admin);
}

async function hasStatistics(admin: postgres.Sql): Promise<boolean> {
  const [found] = await admin<
    { is_there: boolean }[]
  >`select to_regclass('pg_catalog.pg_stat_io') is not null as is_there`;
  return found!.is_there;
}

async function printInputAndOutput(admin: postgres.Sql) {
  // The sessions tell what they did a second later at the latest.
  await admin`select pg_sleep(1.1)`;
  const rows = await admin`
    select backend_type, object, context, coalesce(hits, 0) as hits, coalesce(reads, 0) as reads, coalesce(writes, 0) as writes,
      coalesce(extends, 0) as extends
    from pg_stat_io
    where backend_type in ('client backend', 'background worker') and coalesce(hits, 0) + coalesce(reads, 0) + coalesce(writes, 0) + coalesce(extends, 0) > 1000
    order by 1, 2, 3`;
  const head = ["backend_type", "object", "context", "hits", "reads", "writes", "extends"];
  console.log(`\n${markdownTable([head, ...rows.map((row) => head.map((name) => String(row[name])))])}`);
}

/** The queries of the jobs on the table that has most bytes. */
async function queries(sql: postgres.Sql): Promise<{ title: string; query: string }[]> {
  const [largest] = await sql<{ source: string; copy: string; oid: number }[]>`
    select format('%I.%I', source_schema, source_table) as source, format('%I.%I', ${backupSchema}::text, backup_table) as copy, source_oid as oid
    from ${sql(backupSchema)}.tables_backup order by backup_bytes desc limit 1`;
  const { source, copy, oid } = largest!;
  const [text] = await sql<{ checksum: string; projection: string }[]>`
    select migration_guard.source_checksum_query(${oid}) as checksum, migration_guard.projection(${oid}) as projection`;
  return [
    { title: `count(*) of ${source}`, query: `select count(*) from ${source}` },
    { title: `create table as, by hand`, query: `create table peer.copied as table ${source}` },
    { title: `create table as, of a backup`, query: `create table peer.copied as ${text!.projection}` },
    { title: `checksum of ${source}`, query: text!.checksum },
    { title: `count(*) of ${copy}`, query: `select count(*) from ${copy}` },
    {
      title: `versions of the rows of ${source}`,
      query: `select count(*), count(*) filter (where age(xmin) <= 1000) from only ${source}`,
    },
  ];
}

async function explain(title: string, query: string, { admin, worker }: Omit<Sessions, "watcher">) {
  await worker`create schema if not exists peer`;
  await worker`set jit = off`;
  await admin`checkpoint`;
  const lines = await worker.unsafe<{ "QUERY PLAN": string }[]>(`explain (analyze, buffers, wal, costs off) ${query}`);
  await worker`drop table if exists peer.copied`;
  console.log(`\n### ${title}\n\n\`\`\`\n${lines.map((line) => line["QUERY PLAN"]).join("\n")}\n\`\`\``);
}

/** What lz4 would change in copies of large values, by how the table has stored them. */
async function compareCompression({ admin, worker }: Omit<Sessions, "watcher">) {
  const [setting] = await admin<{ has_lz4: boolean }[]>`
    select 'lz4' = any (enumvals) as has_lz4 from pg_settings where name = 'default_toast_compression'`;
  if (!setting!.has_lz4) {
    console.log("\n### Compression\n\nThis Postgres was built without lz4.");
    return;
  }
  step("Comparing compressions");
  const lines = [["values of 16 kB, stored", "copied with", "ms", "MB of the table", "MB of the copy"]];
  for (const stored of ["pglz", "lz4", "not at all"]) {
    await worker.unsafe(`
      create table peer.documents (id int, body text ${stored === "not at all" ? "" : `compression ${stored}`});
      alter table peer.documents alter column body set storage ${stored === "not at all" ? "external" : "extended"};
      insert into peer.documents
      select n, (select string_agg(md5((n + m)::text) || repeat('word ', 20), '') from generate_series(1, 124) as m)
      from generate_series(1, 5000) as n`).simple();
    for (const used of ["pglz", "lz4"]) {
      await worker`select set_config('default_toast_compression', ${used}, false)`;
      await admin`checkpoint`;
      const begun = performance.now();
      await worker`create table peer.copied as table peer.documents`;
      const milliseconds = performance.now() - begun;
      const [size] = await worker<{ table: number; copy: number }[]>`
        select pg_table_size('peer.documents') / 1e6 as table, pg_table_size('peer.copied') / 1e6 as copy`;
      lines.push([
        stored,
        used,
        milliseconds.toFixed(0),
        Number(size!.table).toFixed(1),
        Number(size!.copy).toFixed(1),
      ]);
      await worker`drop table peer.copied`;
    }
    await worker`drop table peer.documents`;
  }
  console.log(`\n### Compression\n\n${markdownTable(lines)}`);
}

/** Puts 1 % of the rows back, and prints what that takes. */
async function profileRestore(database: OwnDatabase, { admin, worker }: Omit<Sessions, "watcher">) {
  step("Running a rollback");
  await admin`insert into auth.users (id) select id from public.profiles on conflict do nothing`;
  await admin.unsafe(read("valid-changes.sql")).simple();
  const data = worker.json({ data: "restore" });
  const [drawn] = await worker`select plan_hash from migration_guard.plan_rollback(${version}, ${data}, 'default')`;
  await worker`select migration_guard.enqueue_rollback(${version}, ${drawn!.plan_hash}, ${data}, false, 'default')`;
  await admin`checkpoint`;
  await profileFunctions("a rollback that restores", database, admin);
  const statements = await worker<{ milliseconds: number; rows: number | null; statement: string }[]>`
    select s.* from migration_guard.jobs as j
    cross join jsonb_to_recordset(j.result -> 'statements') as s (milliseconds float8, rows bigint, statement text)
    where j.number = (select max(number) from migration_guard.jobs) and s.milliseconds >= 20
    order by s.milliseconds desc`;
  const lines = statements.map(({ milliseconds, rows, statement }) => [
    `\`${statement.replaceAll(/\s+/g, " ").slice(0, 90)}\``,
    milliseconds.toFixed(0),
    String(rows ?? ""),
  ]);
  console.log(`\n${markdownTable([["statement of 20 ms or more", "ms", "rows"], ...lines])}`);
}

/** Backs up a schema of 20,000 objects and no rows, and prints what that takes. */
async function profileCatalog(database: OwnDatabase, { admin, worker }: Omit<Sessions, "watcher">) {
  step("Making 20,000 objects");
  await worker.unsafe(read("catalog.sql")).simple();
  for (let number = 1; number <= 207; number++) await worker`call pg_temp.make_module(${number})`;
  const named = { schema: "app", tables: ["customer_1", "order_1", "item_1"], enums: ["status_1"] };
  await worker`select migration_guard.put_plan('v1', ${worker.json(named)}, 'bench')`;
  await admin`vacuum analyze`;
  await worker`select migration_guard.enqueue_backup('v1', 'bench')`;
  await profileFunctions("a backup of 20,000 objects", database, admin);
}

/** Has the queued job run by a session of its own, and prints in which functions it was for how long. */
async function profileFunctions(title: string, database: OwnDatabase, admin: postgres.Sql) {
  await admin`select pg_stat_reset()`;
  const session = connect(database);
  const begun = performance.now();
  await session`call migration_guard.work()`.simple();
  const milliseconds = performance.now() - begun;
  const [job] = await session`select status, error from migration_guard.jobs order by number desc limit 1`;
  await session.end();
  if (job!.status !== "succeeded") throw new Error(`The job is ${job!.status}: ${JSON.stringify(job!.error)}`);
  // The session tells at its end at the latest.
  await admin`select pg_sleep(1.1)`;
  const functions = await admin<{ name: string; calls: number; total: number; self: number }[]>`
    select funcname as name, calls::int, total_time as total, self_time as self
    from pg_stat_user_functions where self_time >= 20 order by self_time desc`;
  console.log(`\n### ${title}: ${Math.round(milliseconds)} ms, with each call of a function noted\n`);
  console.log(markdownTable([
    ["function, of 20 ms or more by itself", "calls", "ms", "ms by itself"],
    ...functions.map((
      { name, calls, total, self },
    ) => [`\`${name}\``, String(calls), total.toFixed(0), self.toFixed(0)]),
  ]));
}

function cleanUp(): Promise<void> {
  cleaning ??= (async () => {
    await own?.remove();
    rmSync(folder, { recursive: true, force: true });
  })();
  return cleaning;
}

/** What the command line says. Ends the process when that is not understood. */
function readOptions() {
  try {
    const { values } = parseArgs({
      options: { rows: { type: "string", default: "2000000" }, help: { type: "boolean", short: "h" } },
    });
    if (values.help) {
      console.log(help);
      process.exit(0);
    }
    return { rows: wholeNumber("rows", values.rows, { least: 4000 }) };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(1);
  }
}
