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
  await sql`select migration_guard.take_transfers()`;
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
    const { code, message, detail = null, where = null } = error as postgres.PostgresError;
    if (/^[0-9A-Z]{5}$/.test(code)) {
      await sql`select migration_guard.fail_transfer_by_state(${jobId}, ${code}, ${message}, ${detail}, ${where})`;
    } else await sql`select migration_guard.fail_transfer(${jobId}, ${code}, ${message})`;
  }
  await work(sql);
  return lastJob(sql);
}
