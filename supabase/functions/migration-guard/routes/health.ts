import { createRoute, z } from "@hono/zod-openapi";
import type { App } from "../app.ts";
import { healthy } from "../healthy.ts";
import { jsonContent } from "../schemas.ts";

const getHealth = createRoute({
  method: "get",
  path: "/health",
  tags: ["health"],
  summary: "Whether the function runs. It asks for no credential, and asks nothing of the database.",
  security: [],
  responses: {
    200: jsonContent(z.object({ status: z.literal("ok"), version: z.string() }), "It runs."),
  },
});

export function health(app: App) {
  app.openapi(getHealth, (c) => c.json(healthy, 200));
}
