import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type postgres from "postgres";
import { connect } from "../local/database.ts";
import { superuser } from "../local/postgres.ts";
import { type Figure, percentile } from "./figures.ts";
import { interleave, type Run } from "./interleave.ts";
import { backupSchema, dropBackup, type JobResult, type Kind, type QueuedJob, queueJob, version } from "./jobs.ts";
import { fillTables, type OwnDatabase, runScript } from "./own-database.ts";
import { countRows, createTablesAs, exceptAllQueries, pgDump } from "./peers.ts";
import { type SeenLocks, strongestOf, watchLocks } from "./watch-locks.ts";
import { startWriter } from "./writers.ts";

/** What can be measured. Each wants a backup, and takes one. */
export const measures = ["backup", "pg_dump", "space", "verify", "diff", "changes", "writers"] as const;
export type Measure = (typeof measures)[number];

export type MeasureOptions = {
  own: OwnDatabase;
  /** Major version of the server. */
  postgres: string;
  /** Folder for what pg_dump writes. */
  folder: string;
  sizes: number[];
  rounds: number;
  workers: number;
  only: Measure[];
  /** Whether a diff that compares every value is measured, too. */
  exact: boolean;
  onStep: (text: string) => void;
  /** Ends what runs beside Postgres. */
  signal: AbortSignal;
};

export type Measured = { figures: Figure[]; locks: SeenLocks };

const plan = JSON.parse(
  readFileSync(join(import.meta.dirname, "..", "examples", "coordinator-to-curator", "plan.json"), "utf8"),
) as { tables: string[] };
const liveTables = plan.tables.map((table) => `public.${table}`);
/** Milliseconds that writers are watched at least, idle and beside backups: a small backup is taken again and again. */
const leastWriting = 2000;

/** Measures every size in turn, and each in several rounds. */
export async function measure(options: MeasureOptions): Promise<Measured> {
  const { own } = options;
  const admin = connect({ ...own, user: superuser });
  const watcher = connect({ ...own, user: superuser });
  const peer = connect(own);
  const writer = connect(own);
  const workers = Array.from({ length: options.workers }, () => connect(own));
  const pids = [];
  for (const worker of workers) {
    pids.push((await worker<{ pid: number }[]>`select pg_backend_pid() as pid`)[0]!.pid);
  }
  await peer`create schema if not exists peer`;
  await peer`set max_parallel_workers_per_gather to default`;
  await workers[0]!`select migration_guard.put_plan(${version}, ${workers[0]!.json(plan)}, 'bench')`;
  let locks: SeenLocks = { samples: 0, strongest: undefined };
  const figures: Figure[] = [];
  try {
    for (const rows of options.sizes) {
      options.onStep(`Postgres ${options.postgres}: filling the tables with ${rows} rows`);
      await fillTables(own, rows);
      for (let round = 1; round <= options.rounds; round++) {
        options.onStep(`Postgres ${options.postgres}, ${rows} rows, round ${round} of ${options.rounds}`);
        const of = { ...options, ...{ admin, peer, writer, workers, round } };
        const watch = watchLocks(watcher, pids, liveTables);
        const measured = await measureRound(of).finally(async () => locks = strongestOf(locks, await watch.stop()));
        // Whoever looks for locks takes turns of the processor from writers.
        if (options.only.includes("writers")) Object.assign(measured, await measureWriters(of, measured.backup!));
        for (const [name, value] of Object.entries(measured)) {
          figures.push({ postgres: options.postgres, rows, round, name, value });
        }
      }
    }
    return { figures, locks };
  } finally {
    await Promise.all([admin, watcher, peer, writer, ...workers].map((sql) => sql.end()));
  }
}

type RoundOptions = Omit<MeasureOptions, "workers"> & {
  round: number;
  admin: postgres.Sql;
  peer: postgres.Sql;
  writer: postgres.Sql;
  workers: postgres.Sql[];
};

async function measureRound(options: RoundOptions): Promise<Record<string, number>> {
  const { own, round, admin, peer, only } = options;
  const has = (measure: Measure) => only.includes(measure);
  // What the round before has changed is no part of this one.
  await admin.unsafe(`vacuum (analyze) ${liveTables.join(", ")}`);
  const figures = await interleave(round, backupRuns(options));
  // The tables are as they were filled in the first round alone: a vacuum leaves gaps.
  if (has("space") && round === 1) Object.assign(figures, await measureSpace(admin));

  const copies = plan.tables.map((table) => `${backupSchema}.${table}_backup`);
  const both = [...liveTables, ...copies];
  const count = (tables: string[]): Run => ({ before: () => settle(options), run: () => countRows(peer, tables) });
  // Who reads new rows first marks them as committed, for all who read them later.
  await countRows(peer, copies);
  if (has("verify")) {
    const isWhole = ({ checks }: JobResult) => checks!.every(({ status }) => status === "OK");
    const runs = { "verify": jobRun(options, "verify", isWhole), "count the copies": count(copies) };
    Object.assign(figures, await interleave(round, runs));
  }
  if (has("diff")) {
    const runs = { ...diffRuns(options, "unchanged"), "count both sides": count(both) };
    Object.assign(figures, await interleave(round, runs));
  }
  if (has("changes")) {
    await runScript(own, "changes.sql", { "bench.round": round });
    await countRows(peer, liveTables);
    const queries = await exceptAllQueries(peer);
    const runs = {
      ...diffRuns(options, "1 % changed"),
      "count both, 1 % changed": count(both),
      "except all, both ways": {
        before: () => settle(options),
        run: async () => {
          for (const query of queries) await peer.unsafe(query);
        },
      },
    };
    Object.assign(figures, await interleave(round, runs));
  }
  await dropBackup(options.workers[0]!);
  return figures;
}

/** Nothing of what came before is left to be written when a run begins, nor to be counted: a backup gives way to who writes. */
async function settle({ admin, peer, writer, workers }: RoundOptions): Promise<void> {
  for (const sql of [peer, writer, ...workers]) await sql`select pg_stat_force_next_flush()`;
  await admin`checkpoint`;
}

function jobRun(
  options: RoundOptions,
  kind: Kind,
  expect?: (result: JobResult) => boolean,
  parameters?: Record<string, boolean>,
): Run {
  let job: QueuedJob;
  return {
    before: async () => {
      job = await queueJob(options.workers, kind, parameters);
      await settle(options);
    },
    run: () => job.run(),
    after: async () => {
      const result = await job.result();
      if (expect?.(result) === false) throw new Error(`The ${kind} job has found: ${JSON.stringify(result)}`);
    },
  };
}

function diffRuns(options: RoundOptions, state: "unchanged" | "1 % changed"): Record<string, Run> {
  const expect = ({ summary }: JobResult) =>
    Object.values(summary!.rows).every((count) => (count > 0) === (state === "1 % changed"));
  const runs = { [`diff, ${state}`]: jobRun(options, "diff", expect) };
  if (options.exact) runs[`diff, ${state}, exact`] = jobRun(options, "diff", expect, { exact: true });
  return runs;
}

function backupRuns(options: RoundOptions): Record<string, Run> {
  const { peer, own, folder, only, signal } = options;
  const runs: Record<string, Run> = { "backup": jobRun(options, "backup") };
  if (only.includes("backup")) {
    runs["create table as"] = {
      before: async () => {
        await settle(options);
        await peer`set max_parallel_workers_per_gather = 0`;
      },
      run: () => createTablesAs(peer, plan.tables),
      after: async () => {
        await peer`set max_parallel_workers_per_gather to default`;
        for (const table of plan.tables) await peer.unsafe(`drop table peer.${table}`);
      },
    };
  }
  for (const format of only.includes("pg_dump") ? [["-Fc"], ["-Fd", "-j2", "-Z0"]] : []) {
    const file = join(folder, "dump");
    runs[`pg_dump ${format.join(" ")}`] = {
      before: () => settle(options),
      run: () => pgDump({ ...own, tables: liveTables, format, file, signal }),
      after: () => rm(file, { recursive: true }),
    };
  }
  return runs;
}

async function measureSpace(admin: postgres.Sql): Promise<Record<string, number>> {
  const [size] = await admin<{ backup: number; live: number }[]>`
    select
      (select sum(pg_total_relation_size(c.oid))::float8 from pg_class as c
        where c.relnamespace = ${backupSchema}::regnamespace and c.relkind = 'r') as backup,
      (select sum(pg_table_size(t::regclass))::float8 from unnest(${liveTables}::text[]) as t) as live`;
  return { "size of the backup": size!.backup, "size of the live tables": size!.live };
}

/** How long a session's writes take while nothing else runs, and while backups do, by turns of the same length. */
async function measureWriters(options: RoundOptions, backupTime: number): Promise<Record<string, number>> {
  const { writeUntil } = await startWriter(options.writer);
  const [idle, busy]: [number[], number[]] = [[], []];
  for (let watched = 0; watched < leastWriting; watched += backupTime) {
    const { before, run, after } = jobRun(options, "backup");
    await before!();
    idle.push(...await writeUntil(sleep(backupTime)));
    busy.push(...await writeUntil(run()));
    await after!();
    await dropBackup(options.workers[0]!);
  }
  return {
    "writers' p99, idle": percentile(idle, 0.99),
    "writers' p99, backup runs": percentile(busy, 0.99),
    "writers' longest, idle": Math.max(...idle),
    "writers' longest, backup runs": Math.max(...busy),
  };
}
