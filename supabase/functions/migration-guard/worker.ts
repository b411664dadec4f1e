import postgres from "postgres";

/** Sees to it that queued jobs are run. */
export type Worker = {
  /** Starts the database's worker when it is not at work already; resolves when nothing is queued any more. */
  poke: () => Promise<void>;
  /** Whether the database lets this function in directly. */
  isReachable: () => Promise<boolean>;
};

/** SQLSTATE of `statement_timeout_not_lifted`. */
const timeoutNotLifted = "MG016";

/**
 * A worker that calls `migration_guard.work()` over a direct connection, one for each isolate, made when it is first
 * needed. Neither prepared statements nor the session's state are relied upon, so that a transaction pooler serves too.
 */
export function createWorker(databaseUrl: string): Worker {
  const sql = postgres(databaseUrl, {
    max: 1,
    prepare: false,
    // Encrypted wherever the server offers it, unless the URL asks for more.
    ...(/[?&]ssl/.test(databaseUrl) ? {} : { ssl: "prefer" as const }),
    fetch_types: false,
    connect_timeout: 4,
    idle_timeout: 20,
    connection: { application_name: "migration-guard" },
    onnotice: () => {},
  });
  let atWork: Promise<void> | undefined;
  let isPokedAgain = false;

  async function work() {
    do {
      isPokedAgain = false;
      await callWork();
    } while (isPokedAgain);
  }

  /**
   * A call keeps the statement timeout that it begins with. Behind a pooler the setting may have reached another session:
   * then the call refuses, and is tried again, after one setting more or less, so that taking turns cannot go on for ever.
   */
  async function callWork() {
    for (let attempt = 1;; attempt++) {
      for (let repeat = 0; repeat <= attempt % 3; repeat++) await sql`set statement_timeout = 0`.simple();
      try {
        await sql`call migration_guard.work(require_no_statement_timeout => true)`.simple();
        return;
      } catch (error) {
        if ((error as { code?: string }).code !== timeoutNotLifted || attempt === 20) throw error;
      }
    }
  }

  return {
    poke: () => {
      isPokedAgain = true;
      atWork ??= work()
        .catch((error) => {
          // The job stays queued, and the next poke, from wherever it comes, runs it.
          console.error(
            JSON.stringify({ level: "error", event: "worker_failed", code: (error as { code?: string }).code }),
          );
        })
        .finally(() => {
          atWork = undefined;
        });
      return atWork;
    },
    isReachable: async () => {
      if (atWork) return true;
      try {
        await sql`select 1`.simple();
        return true;
      } catch {
        return false;
      }
    },
  };
}
