import type postgres from "postgres";
import { until } from "./until.ts";

export type HeldJob = { id: string; kind: string; worker_pid: number; attempts: number };

/** Waits until a worker is inside the newest job, and waits there for what somebody else has locked. */
export function heldJob(sql: postgres.Sql): Promise<HeldJob> {
  return until(async () => {
    const [job] = await sql<HeldJob[]>`
      select j.id, j.kind, j.worker_pid, j.attempts from migration_guard.jobs as j
      join pg_stat_activity as a on a.pid = j.worker_pid and a.wait_event_type = 'Lock'
      where j.status = 'running' and j.number = (select max(number) from migration_guard.jobs)`;
    return job;
  });
}

/** Locks a table against everybody, in a transaction of another session. */
export async function lockTable(sql: postgres.Sql, table: string): Promise<{ release: () => Promise<void> }> {
  await sql.unsafe("begin");
  await sql.unsafe(`lock table ${table} in access exclusive mode`);
  return {
    release: async () => {
      await sql.unsafe("rollback");
    },
  };
}
