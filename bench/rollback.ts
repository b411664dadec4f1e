// `npm run bench:rollback`: how long a rollback locks tables, beside its statements run by hand, and a rollback that puts rows back,
// beside pg_restore.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import type postgres from "postgres";
import { databaseUrl } from "../local/database-url.ts";
import { connect, createPlatformRoles, createPlatformSchemas, loadExample, pushMigrations } from "../local/database.ts";
import { freePort } from "../local/edge-runtime.ts";
import { type Postgres, removeData, startPostgres, superuser } from "../local/postgres.ts";
import { median } from "./figures.ts";
import { interleave } from "./interleave.ts";
import { judgeAtMost, type Judged } from "./judged.ts";
import { markdownTable } from "./markdown-table.ts";
import { step } from "./step.ts";
import { wholeNumber } from "./whole-number.ts";

const targets = {
  /** The locks of the largest tables, as a multiple of those of the smallest ones. */
  growth: 1.3,
  /** The locks of the job, as a multiple of those of its statements by hand. */
  byHand: 2,
  /** A rollback that restores 1 % of the rows, as a share of pg_restore. */
  restore: 0.25,
};

const help = `Measures two things, each beside its peer, in turns:

  keep      for how long the rollback of the example's migration locks any table, and its own statements, in one
            transaction of psql
  restore   the rollback that puts back 1 % of the rows, from the start of the job to its end, and pg_restore -j2 of the
            same tables from a dump of pg_dump -Fd, after they have been dropped

Starts a Postgres of its own in a temporary folder, and removes it. psql, pg_dump and pg_restore are those of the system; to
be read by an older pg_dump, the Postgres must be another than the usual one: node local/run.mjs --postgres=15 bench/rollback.ts

  npm run bench:rollback
  npm run bench:rollback -- --only=keep                      or restore
  npm run bench:rollback -- --rows=200000,2000000,8000000    rows of the example's four tables together, for keep; 1 kB of
                                                             disk for each
  npm run bench:rollback -- --restore-rows=200000,2000000    and for restore
  npm run bench:rollback -- --rounds=5
  npm run bench:rollback -- --no-fsync                       without waiting for the disk
  npm run bench:rollback -- --json=FILE                      writes the figures there, too

Exits with 1 when a target is missed, or could not be measured.`;

const example = join(import.meta.dirname, "..", "examples", "coordinator-to-curator");
const read = (...path: string[]) => readFileSync(join(...path), "utf8");
const version = "v10.0";
const plan = JSON.parse(read(example, "plan.json"));
// It asks whether the backup is fresh and nobody has migrated since: once, not at each round.
const migration = read(example, "migrations", "v10.0_coordinator_to_curator.sql").replace(
  /^select migration_guard[.]assert_ready.*$/m,
  "",
);
const tables: string[] = plan.tables.map((table: string) => `public.${table}`);

type Line = { what: string; rows: number; median: number; least: number; most: number; unit: string };
type Verdict = { what: string; figure: number; rounds: number[]; target: number };

const options = readOptions();
const folder = mkdtempSync(join(tmpdir(), "migration-guard-bench-"));
const lines: Line[] = [];
const verdicts: Verdict[] = [];
const isMet = ({ figure, target }: Verdict) => figure <= target;
let server: Postgres | undefined;
let cleaning: Promise<void> | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => cleanUp().then(() => process.exit(1)));
}

try {
  await start();
  if (options.parts.includes("keep")) await measureKeep();
  if (options.parts.includes("restore")) await measureRestore();
  print();
  process.exitCode = verdicts.every(isMet) ? 0 : 1;
} catch (error) {
  if (!cleaning) console.error(error);
  process.exitCode = 1;
} finally {
  await cleanUp();
}

async function start() {
  step("Starting Postgres");
  const port = await freePort();
  server = await startPostgres({
    dataDirectory: join(folder, "postgres"),
    port,
    major: process.env.POSTGRES_MAJOR,
    settings: {
      shared_buffers: "512MB",
      max_wal_size: "8GB",
      track_commit_timestamp: "on",
      ...(options.fsync ? {} : { fsync: "off" }),
    },
  });
  await createPlatformRoles(port);
  await createPlatformSchemas({ port, database: "postgres" });
  await pushMigrations({ port, database: "postgres" });
  await loadExample({ port, database: "postgres" });
}

function open(database: string, user?: string) {
  return connect({ port: server!.port, database, user });
}

/** A database of the product with the example's tables of so many rows, all four together. */
async function createDatabase(name: string, rows: number) {
  step(`Making ${rows} rows`);
  const admin = open("template1", superuser);
  await admin.unsafe(`create database ${name} template postgres owner postgres`);
  await admin.end();
  await runPsql(name, ["-c", `set bench.rows = ${rows}`, "-f", join(import.meta.dirname, "rows.sql")], superuser);
  await runPsql(
    name,
    ["-c", "insert into auth.users (id) select id from public.profiles on conflict do nothing"],
    superuser,
  );
}

async function dropDatabase(name: string) {
  const admin = open("template1", superuser);
  await admin.unsafe(`drop database ${name} with (force)`);
  await admin.end();
}

async function takeBackup(database: string) {
  step("Taking the backup");
  await withSession(database, async (sql) => {
    await sql`select migration_guard.put_plan(${version}, ${plan}, 'default')`;
    await sql`select migration_guard.enqueue_backup(${version}, 'default')`;
    await workOff(sql);
  });
}

/** Runs what is queued, and gives the job back that has run. */
async function workOff(sql: postgres.Sql) {
  await sql.unsafe("call migration_guard.work()").simple();
  const [job] = await sql`
    select *, extract(epoch from finished_at - started_at)::float8 * 1000 as milliseconds
    from migration_guard.jobs order by number desc limit 1`;
  if (job!.status !== "succeeded") throw new Error(JSON.stringify(job));
  return job!;
}

async function planRollback(sql: postgres.Sql, data: "keep" | "restore") {
  const [plan] = await sql<[{ plan_hash: string; statements: { statement: string }[] }]>`
    select plan_hash, statements from migration_guard.plan_rollback(${version}, ${sql.json({ data })}, 'default')`;
  return plan;
}

async function queueRollback(sql: postgres.Sql, data: "keep" | "restore") {
  const { plan_hash } = await planRollback(sql, data);
  await sql`select migration_guard.enqueue_rollback(${version}, ${plan_hash}, ${sql.json({ data })}, false, 'default')`;
}

/** The rollback that keeps rows, and its own statements by hand, in turns for each size. */
async function measureKeep() {
  const databases = options.rows.map((rows) => ({
    rows,
    name: `keep_${rows}`,
    job: [] as number[],
    hand: [] as number[],
  }));
  for (const { name, rows } of databases) {
    await createDatabase(name, rows);
    await takeBackup(name);
    await migrate(name);
  }
  for (let round = 0; round <= options.rounds; round++) {
    for (const { name, rows, job, hand } of databases) {
      step(`Keep, ${rows} rows, round ${round} of ${options.rounds}`);
      let [milliseconds, byHand] = [NaN, NaN];
      await interleave(round, {
        job: {
          run: () =>
            withSession(name, async (sql) => {
              await queueRollback(sql, "keep");
              await workOff(sql);
              milliseconds = await locksOfJob(sql);
            }),
          after: () => migrate(name),
        },
        hand: {
          run: async () => {
            const { statements } = await withSession(name, (sql) => planRollback(sql, "keep"));
            byHand = await locksByHand(name, statements.map(({ statement }) => statement));
          },
          after: () => migrate(name),
        },
      });
      // The first round fills caches.
      if (round > 0) {
        job.push(milliseconds);
        hand.push(byHand);
      }
    }
  }
  for (const { rows, job, hand } of databases) {
    addLine("keep: locks of the job", rows, job, "ms");
    addLine("keep: locks of its statements by hand", rows, hand, "ms");
    addVerdict(`keep, ${rows} rows: job to by hand`, [job, hand], targets.byHand);
  }
  const [smallest, largest] = [databases[0]!, databases.at(-1)!];
  if (smallest !== largest) {
    addVerdict(
      `keep: ${largest.rows} rows to ${smallest.rows}`,
      [largest.job, smallest.job],
      targets.growth,
    );
  }
  for (const { name } of databases) await dropDatabase(name);
}

function migrate(database: string) {
  return runPsql(database, ["-c", migration]);
}

function runPsql(database: string, args: string[], user?: string) {
  return run("psql", [
    "-X",
    "-q",
    "-v",
    "ON_ERROR_STOP=1",
    ...args,
    databaseUrl({ port: server!.port, database, user }),
  ]);
}

/** For how many milliseconds the last job has locked any table for readers or writers: by its own record, and until its commit. */
async function locksOfJob(sql: postgres.Sql): Promise<number> {
  const [{ milliseconds }] = await sql<[{ milliseconds: number }]>`
    select (
        select max((l ->> 'held_milliseconds')::float8) from jsonb_array_elements(j.result -> 'locks') as l
        where l ->> 'mode' in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      ) + extract(epoch from pg_xact_commit_timestamp(j.xmin) - j.finished_at)::float8 * 1000 as milliseconds
    from migration_guard.jobs as j order by j.number desc limit 1`;
  return milliseconds;
}

/** The same of statements that psql runs in one transaction, the first of which is a lock: from before it to the commit. */
async function locksByHand(database: string, statements: string[]): Promise<number> {
  const script = join(folder, "by-hand.sql");
  const begin = "begin; select pg_current_xact_id(), extract(epoch from clock_timestamp()) * 1000";
  writeFileSync(script, [begin, ...statements, "commit"].map((statement) => `${statement};\n`).join(""));
  const [transaction, begun] = (await runPsql(database, ["-At", "-f", script])).split("\n")[0]!.split("|");
  return await withSession(database, async (sql) => {
    const [{ ended }] = await sql<[{ ended: number }]>`
      select extract(epoch from pg_xact_commit_timestamp(${transaction!}::xid))::float8 * 1000 as ended`;
    return ended - Number(begun);
  });
}

/** The rollback that puts 1 % of the rows back, and pg_restore of all of them, in turns for each size. */
async function measureRestore() {
  for (const rows of options.restoreRows) {
    const [ours, theirs, dump] = [`restore_${rows}`, `peer_${rows}`, join(folder, `dump-${rows}`)];
    await createDatabase(ours, rows);
    const admin = open("template1", superuser);
    await admin.unsafe(`create database ${theirs} template ${ours} owner postgres`);
    await admin.end();
    await takeBackup(ours);
    const url = databaseUrl({ port: server!.port, database: theirs });
    step("Taking the dump");
    await run("pg_dump", ["-Fd", "-j2", "-f", dump, ...tables.map((table) => `--table=${table}`), url]);
    const [job, restore]: [number[], number[]] = [[], []];
    for (let round = 0; round <= options.rounds; round++) {
      step(`Restore, ${rows} rows, round ${round} of ${options.rounds}`);
      let done: postgres.Row = {};
      const { restored } = await interleave(round, {
        job: {
          before: async () => {
            await runPsql(ours, ["-f", join(import.meta.dirname, "valid-changes.sql")], superuser);
            await migrate(ours);
          },
          run: async () =>
            done = await withSession(ours, async (sql) => {
              await queueRollback(sql, "restore");
              return await workOff(sql);
            }),
        },
        restored: {
          before: () => withSession(theirs, (sql) => sql.unsafe(`drop table ${tables.join(", ")} cascade`)),
          run: () => run("pg_restore", ["-j2", "--exit-on-error", "-d", url, dump]),
        },
      });
      const { milliseconds, result } = done;
      await checkRestored(theirs, result.tables);
      if (round > 0) {
        job.push(milliseconds);
        restore.push(restored!);
      }
      if (options.isVerbose) console.error(statementsOf(result), { milliseconds, restored });
    }
    addLine("restore: the job", rows, job, "ms");
    addLine("restore: pg_restore -j2", rows, restore, "ms");
    addVerdict(`restore, ${rows} rows: job to pg_restore`, [job, restore], targets.restore);
    await dropDatabase(ours);
    await dropDatabase(theirs);
    rmSync(dump, { recursive: true, force: true });
  }
}

/** Whether pg_restore has led to the same rows as the rollback. */
async function checkRestored(database: string, restored: { table: string; rows: number }[]) {
  await withSession(database, async (sql) => {
    for (const { table, rows } of restored) {
      const [{ count }] = await sql.unsafe<[{ count: number }]>(`select count(*)::int as count from ${table}`);
      if (count !== rows) {
        throw new Error(`${table} has ${count} rows after pg_restore, and ${rows} after the rollback.`);
      }
    }
  });
}

// deno-lint-ignore no-explicit-any
function statementsOf(result: any): string {
  return result.statements.filter((s: { milliseconds: number }) => s.milliseconds > 50)
    .map((s: { milliseconds: number; rows: number | null; statement: string }) =>
      `${s.milliseconds} ms, ${s.rows ?? "no"} rows: ${s.statement.slice(0, 90)}`
    )
    .join("\n");
}

async function withSession<T>(database: string, use: (sql: postgres.Sql) => Promise<T>, user?: string): Promise<T> {
  const sql = open(database, user);
  try {
    return await use(sql);
  } finally {
    await sql.end();
  }
}

/** @returns What it writes. @throws When the program is missing or fails, with its errors. */
async function run(program: string, args: string[]): Promise<string> {
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, PGOPTIONS: "-c statement_timeout=0" },
  });
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => output += text);
  child.stderr.setEncoding("utf8").on("data", (text: string) => errors += text);
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${program} has failed:\n${errors}`);
  return output;
}

function addLine(what: string, rows: number, values: number[], unit: string) {
  lines.push({ what, rows, median: median(values), least: Math.min(...values), most: Math.max(...values), unit });
}

/** Compares the medians of two works, and keeps the ratios of single rounds. */
function addVerdict(what: string, [ours, theirs]: [number[], number[]], target: number) {
  const rounds = ours.map((value, round) => value / theirs[round]!);
  verdicts.push({ what, figure: median(ours) / median(theirs), rounds, target });
}

function print() {
  console.log(markdownTable([
    ["what", "rows", "median", "least", "most"],
    ...lines.map(({ what, rows, unit, ...figures }) => [
      what,
      String(rows),
      ...[figures.median, figures.least, figures.most].map((figure) => `${figure.toFixed(0)} ${unit}`),
    ]),
  ]));
  console.log();
  console.log(markdownTable([
    ["ratio of medians", "figure", "in the rounds", "target", ""],
    ...verdicts.map((verdict) => {
      const { what, figure, rounds, target } = verdict;
      const inRounds = `${Math.min(...rounds).toFixed(2)} .. ${Math.max(...rounds).toFixed(2)}`;
      return [what, figure.toFixed(2), inRounds, `at most ${target}`, isMet(verdict) ? "met" : "MISSED"];
    }),
  ]));
  if (options.json) {
    const judged: Judged[] = verdicts.map(({ what, figure, rounds, target }) =>
      judgeAtMost(`${what} ≤ ${target}`, target, figure, rounds)
    );
    writeFileSync(
      options.json,
      JSON.stringify({ rounds: options.rounds, lines, verdicts, judged }, undefined, 2) + "\n",
    );
  }
}

function cleanUp(): Promise<void> {
  cleaning ??= (async () => {
    await server?.stop().catch(() => undefined);
    removeData(join(folder, "postgres"));
    rmSync(folder, { recursive: true, force: true });
  })();
  return cleaning;
}

/** What the command line says. Ends the process when that is not understood, or not to be measured here. */
function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: "string" },
        rows: { type: "string", default: "200000,2000000,8000000" },
        "restore-rows": { type: "string", default: "200000,2000000" },
        rounds: { type: "string", default: "5" },
        "no-fsync": { type: "boolean", default: false },
        verbose: { type: "boolean", default: false },
        json: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) {
      console.log(help);
      process.exit(0);
    }
    const parts = values.only === undefined ? ["keep", "restore"] : [values.only];
    if (!parts.every((part) => part === "keep" || part === "restore")) throw new Error("--only is keep or restore.");
    const version = (program: string) => {
      const [, major] = /(\d+)[.\d]* /.exec(`${spawnSync(program, ["--version"], { encoding: "utf8" }).stdout} `) ?? [];
      if (major === undefined) throw new Error(`There is no ${program} on this machine.`);
      return Number(major);
    };
    version("psql");
    if (
      parts.includes("restore") &&
      Math.min(version("pg_dump"), version("pg_restore")) < Number(process.env.POSTGRES_MAJOR ?? 17)
    ) {
      throw new Error(
        "pg_dump is older than the Postgres that is to be measured: see below for another one, or --only=keep.",
      );
    }
    return {
      parts,
      rows: values.rows.split(",").map((text) => wholeNumber("rows", text)),
      restoreRows: values["restore-rows"].split(",").map((text) => wholeNumber("restore-rows", text)),
      rounds: wholeNumber("rounds", values.rounds),
      fsync: !values["no-fsync"],
      isVerbose: values.verbose,
      json: values.json,
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(1);
  }
}
