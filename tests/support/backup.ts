import type postgres from "postgres";
import { expect } from "vitest";

export type Plan = {
  title?: string;
  schema?: string;
  tables?: string[] | "*";
  enums?: string[];
  functions?: string[];
  match?: string | null;
  retention_days?: number;
  trash_hours?: number;
  two_keys?: boolean;
  require_export?: boolean;
  contacts?: string[];
  notify_url?: string | null;
};

type Job = {
  id: string;
  status: string;
  error: { code: string; message: string } | null;
  result: Record<string, unknown>;
};

/** Runs everything that is queued. */
export async function work(sql: postgres.Sql): Promise<void> {
  await sql`call migration_guard.work()`.simple();
}

/** The newest job. */
export async function lastJob(sql: postgres.Sql): Promise<Job> {
  const [job] = await sql<
    Job[]
  >`select id, status, error, result from migration_guard.jobs order by number desc limit 1`;
  return job!;
}

/** Stores a plan, takes its backup, and gives the finished job back, whatever became of it. */
export async function tryBackUp(sql: postgres.Sql, version: string, plan: Plan): Promise<Job> {
  await sql`select migration_guard.put_plan(${version}, ${sql.json(plan)}, 'test')`;
  await sql`select migration_guard.enqueue_backup(${version}, 'test')`;
  await work(sql);
  return lastJob(sql);
}

/** Stores a plan and takes its backup, which must succeed. */
export async function backUp(sql: postgres.Sql, version: string, plan: Plan): Promise<Job> {
  const job = await tryBackUp(sql, version, plan);
  expect(job.error).toBeNull();
  return job;
}

/** Runs the verification job of a backup and gives its checks, by name. */
export async function verify(
  sql: postgres.Sql,
  version: string,
): Promise<Map<string, { status: string; details: string }>> {
  await sql`select migration_guard.enqueue_verification(${version}, 'test')`;
  await work(sql);
  const { result } = await lastJob(sql);
  const checks = result.checks as { check_name: string; status: string; details: string }[];
  return new Map(checks.map(({ check_name, ...check }) => [check_name, check]));
}
