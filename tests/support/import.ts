import type postgres from "postgres";
import { importStep } from "../../supabase/functions/migration-guard/exports/import-step.ts";
import type { ObjectStore } from "../../supabase/functions/migration-guard/exports/object-store.ts";
import { lastJob, work } from "./backup.ts";

export type ImportOptions = {
  store: ObjectStore;
  version?: string;
  identities?: string[];
  expectedManifest?: string;
};

/** Queues an import and takes it, as the function does; gives the job's id. */
export async function takeImport(
  sql: postgres.Sql,
  id: string,
  { store, version = "v10", expectedManifest }: ImportOptions,
): Promise<string> {
  const [job] = await sql<[{ id: string }]>`
    select id from migration_guard.enqueue_import(${id}, ${version}, ${store.target}, ${
    expectedManifest ?? null
  }, 'default')`;
  await sql`update migration_guard.jobs set status = 'running', attempts = 1, started_at = now() where id = ${job.id}`;
  return job.id;
}

/** What an import's step is given. */
export const transferOf = (sql: postgres.Sql, jobId: string, { store, identities = [] }: ImportOptions) => ({
  sql,
  jobId,
  identities,
  openStore: () => Promise.resolve(store),
});

/** Does all steps of an import, and records what they fail with, as the function does; then has the worker do its part. */
export async function tryImport(sql: postgres.Sql, id: string, options: ImportOptions) {
  const jobId = await takeImport(sql, id, options);
  try {
    while (await importStep(transferOf(sql, jobId, options)) !== "ended");
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    const [{ told }] = await sql<[{ told: string }]>`
      select case when ${code} ~ '^[a-z_]+$' then ${code} else migration_guard.error_code(${code}) end as told`;
    await sql`
      update migration_guard.jobs set status = 'failed', finished_at = now(), error = ${
      sql.json({ code: told, message })
    }
      where id = ${jobId}`;
  }
  await work(sql);
  return lastJob(sql);
}
