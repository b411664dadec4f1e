import type postgres from "postgres";
import { difference } from "../difference.ts";
import { planByDefinitions, type RollbackOptions } from "../rollback.ts";
import { freshApp } from "../fresh-app.ts";
import { type Connections, schemaState } from "../schema-state.ts";
import { tableRows } from "../table-rows.ts";
import { runChoices, type Tried } from "./run-choices.ts";
import type { Scenario } from "./scenario.ts";

/** What became of a scenario, when that is no counterexample. */
export type Verdict = "led back" | "refused" | "rows violate a constraint";

type Job = { status: string; error: { code: string } | null };
type Plan = {
  plan_hash: string;
  possible: boolean;
  statements: { statement: string }[];
  cannot_undo: { object: string; why: string; blocks: boolean }[];
  new_objects: unknown[];
};

const version = "v1";

async function finish(sql: postgres.Sql): Promise<Job> {
  await sql`call migration_guard.work()`.simple();
  const [job] = await sql<[Job]>`select status, error from migration_guard.jobs order by number desc limit 1`;
  return job;
}

/** What Postgres and the product say of the schema, and its rows. */
async function read(connections: Connections, first: number) {
  return {
    catalog: await schemaState(connections, "app", first),
    rows: await tableRows(connections.admin, "app"),
  };
}

const script = (tried: Tried[]) => tried.filter((t) => !t.refusal).map((t) => `  ${t.statement};`).join("\n");

/**
 * Makes a schema, backs it up, changes it and leads it back.
 *
 * @throws When the rollback is not what was promised: with every statement that led there.
 */
export async function proveRollback(connections: Connections, scenario: Scenario): Promise<Verdict> {
  const { sql } = connections;
  const first = await freshApp(connections);
  const made = await runChoices(sql, scenario.schema);
  let changed: Tried[] = [];
  let plan: Plan | undefined;
  const fail = (what: string, details: unknown): never => {
    throw new Error([
      what,
      typeof details === "string" ? details : JSON.stringify(details, null, 1),
      "schema:",
      script(made),
      "changes:",
      script(changed),
      `data: ${scenario.data}, drop_new: ${scenario.dropNew}`,
      ...(plan ? ["plan:", ...plan.statements.map(({ statement }) => `  ${statement};`)] : []),
    ].join("\n"));
  };

  await sql`select migration_guard.put_plan(${version}, ${sql.json({ schema: "app", tables: "*" })}, 'test')`;
  await sql`select migration_guard.enqueue_backup(${version}, 'test')`;
  const backup = await finish(sql);
  if (backup.status !== "succeeded") fail("The backup failed.", backup);
  const before = await read(connections, first);

  changed = await runChoices(sql, scenario.changes);
  const migrated = await read(connections, first);
  const options = sql.json({ data: scenario.data, ...(scenario.dropNew === "all" ? { drop_new: "all" } : {}) });
  try {
    [plan] = await sql<[Plan]>`select * from migration_guard.plan_rollback(${version}, ${options}, 'test')`;
  } catch (error) {
    fail("There is no plan.", String(error));
  }
  const { plan_hash, possible, cannot_undo } = plan!;
  const whole = await planByDefinitions(sql, version, options.value as RollbackOptions);
  const differing = difference([JSON.stringify(whole, null, 1)], [JSON.stringify(plan, null, 1)]);
  if (differing.length > 0) fail("The plan is another where all definitions are read.", differing.join("\n"));
  const bars = cannot_undo.filter(({ blocks }) => blocks);
  if (possible !== (bars.length === 0)) fail("The plan does not know whether it is possible.", plan);
  let job: Job;
  try {
    await sql`select migration_guard.enqueue_rollback(${version}, ${plan_hash}, ${options}, false, 'test')`;
    job = await finish(sql);
  } catch (error) {
    if (possible) fail("The rollback was not accepted.", String(error));
    if ((error as { code?: string }).code !== "MG022") fail("The refusal is no refusal.", String(error));
    if (bars.some(({ object, why }) => !object || !why)) fail("The refusal names nothing.", cannot_undo);
    return "refused";
  }
  if (!possible) fail("What is impossible was accepted.", cannot_undo);

  const after = await read(connections, first);
  if (job.status !== "succeeded") {
    const halfDone = difference([...migrated.catalog, ...migrated.rows], [...after.catalog, ...after.rows]);
    if (halfDone.length > 0) fail("A failed rollback left something behind.", halfDone.join("\n"));
    if (scenario.data === "keep" && job.error?.code === "rows_violate_constraint") return "rows violate a constraint";
    fail("The rollback failed.", job.error);
  }
  const differences = difference(before.catalog, after.catalog);
  const kept = scenario.dropNew === "default" && plan!.new_objects.length > 0;
  // What was made since and then moved out of the schema is none of the backup's business.
  const missed = differences.filter((line) =>
    line.startsWith("-") || !kept && !/archive\.|namespace":"archive"/.test(line)
  );
  if (missed.length > 0) fail("The catalog is not what it was.", missed.join("\n"));
  if (scenario.data === "restore") {
    const rows = difference(before.rows, after.rows).filter((line) => !kept || line.startsWith("-"));
    if (rows.length > 0) fail("The rows are not what they were.", rows.join("\n"));
  }
  return "led back";
}
