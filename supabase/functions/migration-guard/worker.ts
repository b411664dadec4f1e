import { deadline } from "deno-std/async/deadline.js";
import { delay } from "deno-std/async/delay.js";
import type postgres from "postgres";
import type { TransferOptions } from "./exports/work-on-transfers.ts";

/** Sees to it that queued jobs are run. */
export type Worker = {
  /**
   * Starts the database's worker. The promise is settled when nothing is queued any more, or the call has failed: then
   * the job stays queued, and the next poke, from wherever it comes, has it run. Nothing where a call has begun lately,
   * unless there is a new job: that has a call of its own while the others are at work on theirs, and a backup a second
   * one that helps.
   */
  poke: (job?: NewJob) => Promise<void> | undefined;
  /** Whether the database lets this function in directly. */
  isReachable: () => Promise<boolean>;
};

export type NewJob = "backup" | "other";

/** SQLSTATE of `statement_timeout_not_lifted`. */
const timeoutNotLifted = "MG016";
/** Milliseconds in which the database must answer what it can answer at once. */
const answerLimit = 4000;
/** Age in milliseconds from which a call does not count as being at work: it has a long job, or its connection is dead. */
const oldCall = 30_000;
/** Calls at a time, each with a connection: jobs on different backups run side by side, and the smallest database has 60. */
const maxCalls = 10;

type Call = { since: number; isPokedAgain: boolean; isConnected: Promise<boolean>; connected: (is: boolean) => void };

function createCall(): Call {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  return { since: Date.now(), isPokedAgain: false, isConnected: promise, connected: resolve };
}

/**
 * A worker that calls `migration_guard.work()` over a direct connection, one for each isolate, made when it is first
 * needed. Neither prepared statements nor the session's state are relied upon, so that a transaction pooler serves too.
 */
export function createWorker(databaseUrl: string, transfers: TransferOptions): Worker {
  /** Encrypted when the URL says so, or the server insists; not every Deno can, and the platform's network is its own. */
  let ssl: "require" | undefined;
  let idle: postgres.Sql | undefined;
  const calls = new Set<Call>();

  async function open() {
    // Most isolates run no job: the driver is loaded by those that do.
    const { default: postgres } = await import("postgres");
    return postgres(databaseUrl, {
      max: 1,
      prepare: false,
      fetch_types: false,
      connect_timeout: answerLimit / 1000,
      idle_timeout: 20,
      connection: { application_name: "migration-guard" },
      onnotice: () => {},
      ...(ssl ? { ssl } : {}),
    });
  }

  /** Lends the connection that is idle, or a new one; one that has failed is not used again. */
  async function withConnection<T>(use: (sql: postgres.Sql) => Promise<T>): Promise<T> {
    const lent = idle;
    idle = undefined;
    const sql = lent ?? await open();
    try {
      const result = await use(sql);
      if (idle) sql.end();
      else idle = sql;
      return result;
    } catch (error) {
      sql.end({ timeout: 0 });
      // invalid_authorization_specification: pg_hba.conf has no entry for a connection that is not encrypted.
      if (codeOf(error) === "28000" && !ssl) {
        ssl = "require";
        return withConnection(use);
      }
      throw error;
    }
  }

  /**
   * A call keeps the statement timeout that it begins with. Behind a pooler the setting may have reached another session:
   * then the call refuses, and is tried again, after one setting more or less, so that taking turns cannot go on for ever.
   */
  async function callWork(sql: postgres.Sql, { connected }: Call) {
    for (let attempt = 1;; attempt++) {
      for (let repeat = 0; repeat <= attempt % 3; repeat++) {
        await deadline(sql`set statement_timeout = 0`.simple(), answerLimit);
      }
      connected(true);
      try {
        await sql`call migration_guard.work(require_no_statement_timeout => true)`.simple();
        return;
      } catch (error) {
        if (codeOf(error) !== timeoutNotLifted || attempt === 20) throw error;
      }
    }
  }

  /** Whether there was something to do that only the function can, and the database's worker should look again. */
  async function transfer(sql: postgres.Sql): Promise<boolean> {
    const [{ is_due }] = await sql<[{ is_due: boolean }]>`
      select exists (select from migration_guard.jobs as j where j.run_by = 'function' and j.finished_at is null) as is_due`;
    if (!is_due) return false;
    const { workOnTransfers } = await import("./exports/work-on-transfers.ts");
    return await workOnTransfers(sql, transfers);
  }

  async function work(current: Call) {
    for (let failures = 0;;) {
      current.isPokedAgain = false;
      try {
        await withConnection(async (sql) => {
          do await callWork(sql, current); while (await transfer(sql));
        });
      } catch (error) {
        current.connected(false);
        console.error(JSON.stringify({ level: "error", event: "worker_failed", code: codeOf(error) }));
        // A lost connection or a restarted server is worth another try at once; other failures wait for the next poke.
        if (++failures > 3) return;
        await delay(100 * failures);
        continue;
      }
      if (!current.isPokedAgain) return;
    }
  }

  /** Nothing depends on it: what a helper does not do, the worker does. */
  async function help() {
    try {
      await withConnection(async (sql) => {
        await deadline(sql`set statement_timeout = 0`.simple(), answerLimit);
        await sql`call migration_guard.help(require_no_statement_timeout => true)`.simple();
      });
    } catch (error) {
      console.error(JSON.stringify({ level: "info", event: "help_failed", code: codeOf(error) }));
    }
  }

  return {
    poke: (job) => {
      const recent = [...calls].filter(({ since }) => Date.now() - since < oldCall);
      if (calls.size === maxCalls || recent.length > 0 && !job) {
        for (const call of calls) call.isPokedAgain = true;
        return undefined;
      }
      const current = createCall();
      calls.add(current);
      const working = work(current).finally(() => {
        current.connected(false);
        calls.delete(current);
      });
      return job === "backup" ? Promise.all([working, help()]).then(() => {}) : working;
    },
    isReachable: async () => {
      // A call that is at work, or about to be, knows.
      const [call] = [...calls].slice(-1);
      if (call) return call.isConnected;
      try {
        await withConnection((sql) => deadline(sql`select 1`.simple(), answerLimit));
        return true;
      } catch {
        return false;
      }
    },
  };
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown }).code ?? (error as Error).name);
}
