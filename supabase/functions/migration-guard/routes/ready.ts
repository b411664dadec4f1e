import { createRoute, z } from "@hono/zod-openapi";
import type { App } from "../app.ts";
import { Problem } from "../problems.ts";
import { readiness } from "../readiness.ts";
import { jsonContent, problemResponses } from "../schemas.ts";
import { productVersion } from "../version.ts";

const Readiness = z.object({
  status: z.literal("ready"),
  version: z.string(),
  server_version: z.string().openapi({ description: "Version of Postgres." }),
  worker: z.enum(["function", "pg_cron", "none"]).openapi({
    description:
      "Who runs jobs: this function over its direct connection, else pg_cron where `migration_guard.schedule_worker()` was called, else nobody.",
  }),
  queued_jobs: z.int(),
  running_jobs: z.int(),
}).openapi("Readiness");

const getReady = createRoute({
  method: "get",
  path: "/ready",
  "x-required-role": "viewer",
  tags: ["health"],
  summary: "Whether the database is reachable, its SQL of this version, and who runs jobs.",
  responses: { 200: jsonContent(Readiness, "Everything is in place."), ...problemResponses() },
});

export function ready(app: App) {
  app.openapi(getReady, async (c) => {
    const { product_version, pg_cron, ...counts } = await readiness(c.var.client);
    if (product_version !== productVersion) {
      throw new Problem("version_mismatch", {
        detail:
          `The function is ${productVersion}, its SQL ${product_version}: run \`supabase db push\` and deploy the function again.`,
      });
    }
    const worker = await c.var.worker.isReachable()
      ? "function" as const
      : pg_cron
      ? "pg_cron" as const
      : "none" as const;
    return c.json({ status: "ready" as const, version: productVersion, worker, ...counts }, 200);
  });
}
