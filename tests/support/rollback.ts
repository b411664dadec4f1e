import type postgres from "postgres";
import { expect } from "vitest";
import { lastJob, work } from "./backup.ts";

export type RollbackOptions = {
  data?: "keep" | "restore" | Record<string, "keep" | "restore">;
  drop_new?: string[] | "all" | "blocking";
  leave_deleted?: boolean;
};

export type RollbackStep = {
  step: number;
  object: string;
  reason: string;
  statement: string;
  effect: string;
  lock: string | null;
  on: string | null;
  estimated_rows: number | null;
};

export type RollbackPlan = {
  plan_hash: string;
  possible: boolean;
  statements: RollbackStep[];
  new_objects: Record<string, unknown>[];
  cannot_undo: { object: string; why: string; blocks: boolean }[];
  left_as_is: Record<string, unknown>[];
  tables: Record<string, unknown>[];
  notes: unknown[];
};

class Undone extends Error {}

/** The plan of a session that reads every definition, since it does not know what was altered. Leaves nothing behind. */
export async function planByDefinitions(
  sql: postgres.Sql,
  version: string,
  options: RollbackOptions = {},
): Promise<RollbackPlan> {
  let plan: RollbackPlan | undefined;
  try {
    await sql.begin(async (transaction) => {
      await transaction`update migration_guard.backups set catalog_fingerprint = null`;
      plan = await readPlan(transaction, version, options);
      throw new Undone();
    });
  } catch (error) {
    if (!(error instanceof Undone)) throw error;
  }
  return plan!;
}

/** The plan by itself. */
export async function readPlan(
  sql: postgres.Sql | postgres.TransactionSql,
  version: string,
  options: RollbackOptions = {},
): Promise<RollbackPlan> {
  const [plan] = await sql<[RollbackPlan]>`
    select * from migration_guard.plan_rollback(${version}, ${sql.json(options)}, 'test')`;
  return plan;
}

/** The plan, which must be the same whether all definitions are read for it or only those that can have been altered. */
export async function planRollback(
  sql: postgres.Sql,
  version: string,
  options: RollbackOptions = {},
): Promise<RollbackPlan> {
  const plan = await readPlan(sql, version, options);
  // A table may be analyzed between one and the other.
  const withoutEstimates = ({ statements, ...rest }: RollbackPlan) => ({
    ...rest,
    statements: statements.map((step) => ({ ...step, estimated_rows: null })),
  });
  expect(withoutEstimates(await planByDefinitions(sql, version, options))).toEqual(withoutEstimates(plan));
  return plan;
}

/** Runs the rollback that is planned now, and gives the finished job back, whatever became of it. */
export async function tryRollBack(sql: postgres.Sql, version: string, options: RollbackOptions = {}) {
  const { plan_hash } = await planRollback(sql, version, options);
  await sql`select migration_guard.enqueue_rollback(${version}, ${plan_hash}, ${sql.json(options)}, false, 'test')`;
  await work(sql);
  return lastJob(sql);
}

/** Runs the rollback that is planned now, which must succeed. */
export async function rollBack(sql: postgres.Sql, version: string, options: RollbackOptions = {}) {
  const job = await tryRollBack(sql, version, options);
  expect(job).toMatchObject({ error: null, status: "succeeded" });
  return job;
}
