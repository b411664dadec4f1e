import type { Context } from "hono";
import type { AppEnv } from "./app.ts";
import { Problem } from "./problems.ts";
import { readiness } from "./readiness.ts";

/** Who runs a queued job where this function cannot reach the database directly; nothing where it can. */
export async function queueHint(c: Context<AppEnv>): Promise<string | undefined> {
  if (await c.var.worker.isReachable()) return undefined;
  const refused = "The job is queued, but this function cannot connect to the database directly";
  try {
    const { pg_cron } = await readiness(c.var.client);
    return pg_cron
      ? `${refused}: pg_cron will run it.`
      : `${refused}, and pg_cron does not call the worker. To have it run: call migration_guard.work() in psql, or select migration_guard.schedule_worker() once, or let the function's network in (Network Restrictions in the project's settings).`;
  } catch (error) {
    if (error instanceof Problem) return `${refused}.`;
    throw error;
  }
}
