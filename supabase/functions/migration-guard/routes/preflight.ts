import { createRoute, z } from "@hono/zod-openapi";
import type { App } from "../app.ts";
import { boundBodies } from "../derive/bound-bodies.ts";
import { rpc } from "../rpc.ts";
import { migrationText } from "../migration-text.ts";
import { jsonContent, migrationBody, Pretty, problemResponses, VersionParameter } from "../schemas.ts";

const Check = z.object({
  check_name: z.string().openapi({ description: "Stable name of the check." }),
  status: z.enum(["ok", "warning", "blocked"]).openapi({
    description: "`blocked`: a backup taken now would fail. `warning`: worth a look before the migration.",
  }),
  details: z.string().openapi({ description: "What was found, and what can be done about it." }),
  items: z.array(z.looseObject({})).openapi({
    description:
      "What it was found on, 200 at most. In `sizes`, `estimated_rows` of a table is null where it was not analyzed yet, so that nobody knows.",
  }),
}).openapi("PreflightCheck");

const Preflight = z.object({
  can_back_up: z.boolean().openapi({ description: "Whether no check says `blocked`." }),
  estimated_bytes: z.int().openapi({ description: "About what the backup takes." }),
  checks: z.array(Check),
});

const preflightPlan = createRoute({
  method: "post",
  path: "/v1/plans/{version}/preflight",
  "x-required-role": "operator",
  "x-changes": false,
  tags: ["plans"],
  summary: "Look, before the backup and the migration, for what could get in their way. Nothing is changed.",
  description:
    "With the migration file as the body, functions, its own among them, are searched for the names that it\nrenames or drops, and what its text does not tell is listed. Without, functions are searched for the names of the plan.",
  request: {
    params: VersionParameter,
    query: z.strictObject({
      pretty: Pretty,
    }),
    body: migrationBody(false),
  },
  responses: {
    200: jsonContent(Preflight.extend({ version: z.string() }).openapi("Preflight"), "Every check, and what it found."),
    ...problemResponses(404, 413, 415),
  },
});

/** What reading the file needs of the plan. */
const PlanOfFile = z.object({ version: z.string(), schema: z.string() });

/** Longest time that reading the catalog may take, in milliseconds; the database ends it at 25 s. */
const preflightLimit = 26_000;

export function preflight(app: App) {
  app.openapi(preflightPlan, async (c) => {
    const { version, schema } = await rpc(c.var.client, "get_plan", c.req.valid("param"), PlanOfFile);
    const text = await migrationText(c.req);
    const migration = text === "" ? {} : await read(text, schema);
    const parameters = { version, actor: c.var.actor, ...migration };
    const [answer] = await rpc(c.var.client, "preflight_plan", parameters, z.tuple([Preflight]), preflightLimit);
    return c.json({ version, ...answer }, 200);
  });
}

async function read(text: string, schema: string) {
  const { parseMigration } = await import("../derive/parse-migration.ts");
  return boundBodies(await parseMigration(text, schema));
}
