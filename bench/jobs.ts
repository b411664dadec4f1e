import type postgres from "postgres";

export const version = "v10";
export const backupSchema = "migration_backup_v10";

export type Kind = "backup" | "verify" | "diff";

export type JobResult = {
  /** Of a verification. */
  checks?: { status: string }[];
  /** Of a diff. */
  summary?: { rows: Record<string, number> };
};

export type QueuedJob = {
  /** Has the job run as the function does: one session calls `work()`, and of a backup a second one helps. Ends when `work()` does. */
  run: () => Promise<void>;
  /** What it has found, when who helped has noticed its end. Throws where it did not succeed. */
  result: () => Promise<JobResult>;
};

/** Queues a job. */
export async function queueJob(
  workers: postgres.Sql[],
  kind: Kind,
  parameters: Record<string, boolean> = {},
): Promise<QueuedJob> {
  const sql = workers[0]!;
  const enqueue = { backup: "enqueue_backup", verify: "enqueue_verification", diff: "enqueue_diff" }[kind];
  const [queued] = await sql<{ id: string }[]>`
    select id from ${sql(`migration_guard.${enqueue}`)}(${version}, 'bench')`;
  const { id } = queued!;
  let helping: Promise<unknown> = Promise.resolve();
  await sql`update migration_guard.jobs set parameters = parameters || ${sql.json(parameters)} where id = ${id}`;
  return {
    run: async () => {
      const [worker, ...others] = workers;
      const working = worker!`call migration_guard.work()`.simple().execute();
      const helpers = kind === "backup" ? others : [];
      helping = Promise.all(helpers.map((helper) => helper`call migration_guard.help()`.simple().catch(wasDismissed)));
      // It is told to whoever asks for the result.
      helping.catch(() => undefined);
      await working;
    },
    result: async () => {
      await helping;
      const [job] = await sql<{ status: string; error: unknown; result: JobResult }[]>`
        select status, error, result from migration_guard.jobs where id = ${id}`;
      if (job!.status === "succeeded") return job!.result;
      throw new Error(`The ${kind} job is ${job!.status}: ${JSON.stringify(job!.error)}`);
    },
  };
}

/** A helper that is not needed any more is cancelled, wherever it is at that moment; the function takes no notice of that either. */
function wasDismissed(error: unknown): void {
  if ((error as { code?: string }).code !== "57014") throw error;
}

/** Drops the backup. The product finds that it is gone, and lets another be taken. */
export async function dropBackup(sql: postgres.Sql): Promise<void> {
  await sql.unsafe(`drop schema if exists ${backupSchema} cascade`);
}
