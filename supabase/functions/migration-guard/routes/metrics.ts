import { createRoute, z } from "@hono/zod-openapi";
import type { App } from "../app.ts";
import { renderMetrics } from "../render-metrics.ts";
import { rpc } from "../rpc.ts";
import { problemResponses } from "../schemas.ts";
import { productVersion } from "../version.ts";

const Samples = z.array(z.object({ metric: z.string(), labels: z.record(z.string(), z.string()), value: z.number() }));

const getMetrics = createRoute({
  method: "get",
  path: "/metrics",
  "x-required-role": "viewer",
  tags: ["health"],
  summary: "Figures of jobs and backups in the text format of Prometheus.",
  responses: {
    200: { description: "The figures, as they are now.", content: { "text/plain": { schema: z.string() } } },
    ...problemResponses(),
  },
});

export function metrics(app: App) {
  app.openapi(getMetrics, async (c) => {
    const samples = await rpc(c.var.client, "get_metrics", {}, Samples);
    samples.push({
      metric: "migration_guard_build_info",
      labels: { component: "function", version: productVersion },
      value: 1,
    });
    const { text, contentType } = renderMetrics(samples);
    return c.text(text, 200, { "content-type": contentType });
  });
}
