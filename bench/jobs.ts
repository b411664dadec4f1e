import type postgres from "postgres";

export const version = "v10";
export const backupSchema = "migration_backup_v10";

export type Kind = "backup" | "verify" | "diff";

/**
 * Queues a job, and gives the function that has it run by workers at once: each is a session that calls `work()`.
 *
 * @throws When the job did not succeed.
 */
export async function queueJob(
  workers: postgres.Sql[],
  kind: Kind,
  parameters: Record<string, boolean> = {},
): Promise<() => Promise<void>> {
  const [sql] = workers;
  const enqueue = { backup: "enqueue_backup", verify: "enqueue_verification", diff: "enqueue_diff" }[kind];
  const [queued] = await sql!<{ id: string }[]>`
    select id from ${sql!(`migration_guard.${enqueue}`)}(${version}, 'bench')`;
  await sql!`
    update migration_guard.jobs set parameters = parameters || ${sql!.json(parameters)} where id = ${queued!.id}`;
  return async () => {
    await Promise.all(workers.map((worker) => worker`call migration_guard.work()`.simple()));
    const [job] = await sql!<{ status: string; error: unknown }[]>`
      select status, error from migration_guard.jobs where id = ${queued!.id}`;
    if (job!.status !== "succeeded") {
      throw new Error(`The ${kind} job is ${job!.status}: ${JSON.stringify(job!.error)}`);
    }
  };
}

/** Drops the backup. The product finds that it is gone, and lets another be taken. */
export async function dropBackup(sql: postgres.Sql): Promise<void> {
  await sql.unsafe(`drop schema if exists ${backupSchema} cascade`);
}
