import { createRoute, z } from "@hono/zod-openapi";
import type { App } from "../app.ts";
import { assertNotifyUrl } from "../assert-notify-url.ts";
import { rpc } from "../rpc.ts";
import { jsonBody, jsonContent, problemResponses, Text, Timestamp, VersionParameter } from "../schemas.ts";
import { withNearestNames } from "../with-nearest-names.ts";

/** How many names a list of a plan may have. */
const maxNames = 1000;

const Name = Text.min(1).max(2000);

/** A list of names. Its length is looked at first: a megabyte of wrong names is not worth an error for each. */
const names = (description: string) =>
  z.array(z.unknown()).max(maxNames).pipe(z.array(Name)).openapi({
    type: "array",
    items: { type: "string", minLength: 1, maxLength: 2000 },
    maxItems: maxNames,
    description,
  });

const allTables = z.literal("*").openapi({ description: "Every table of the schema when the backup is taken." });

const NotifyUrl = Text.min(1).max(2000).nullable().openapi({
  description:
    "An https URL that gets one signed POST for each job of the version that ends (docs/webhooks.md). No user, no fragment, no address that is not public.",
  example: "https://example.com/hooks/migration-guard",
});

const PlanBody = z.strictObject({
  title: Text.max(200).default("").openapi({ description: "One line that tells what the migration does." }),
  description: Text.max(10_000).default(""),
  schema: Name.max(63).default("public").openapi({ description: "Schema that holds everything named below." }),
  tables: z.union(
    [allTables, names("Tables, as the catalog spells them, without quotes.")],
    `is a list of up to ${maxNames} names, or "*"`,
  )
    .default([]),
  enums: names("Enum types.").default([]),
  functions: names("`name` for all functions of a name, `name(type, type)` for one.").default([]),
  match: Text.min(2).max(200).nullable().default(null).openapi({
    description:
      "A term, in upper or lower case: every function, index, policy, view, trigger and constraint of the schema whose name or definition contains it belongs to the plan too, and whatever has it in a comment.",
  }),
  retention_days: z.int().min(1).max(3650).default(7).openapi({
    description: "Days from the sign-off of the migration to the earliest cleanup of its backup; 14 is recommended.",
  }),
  trash_hours: z.int().min(0).max(8760).default(24).openapi({
    description: "Hours for which a cleaned up backup can be brought back from the trash; 0 drops it at once.",
  }),
  two_keys: z.boolean().default(false).openapi({
    description:
      "Whether a rollback and a cleanup want two people: another key than the one that drew the rollback plan or the cleanup's token.",
  }),
  require_export: z.boolean().default(false).openapi({
    description: "Whether the checklist and a cleanup want an export of the backup that was verified.",
  }),
  contacts: z.array(Text.trim().min(1).max(200)).max(20).default([]).openapi({
    description: "Whom to call: they are in the backup's metadata, and in the answer of every failed job.",
  }),
  notify_url: NotifyUrl.default(null),
}).refine(
  ({ tables, enums, functions, match }) => tables.length + enums.length + functions.length > 0 || match !== null,
  "a plan names a table, an enum, a function or a term to match",
).openapi("PlanBody");

const Plan = z.object({
  version: z.string(),
  title: z.string(),
  description: z.string(),
  schema: z.string(),
  tables: z.union([allTables, z.array(z.string())]),
  enums: z.array(z.string()),
  functions: z.array(z.string()),
  match: z.string().nullable(),
  retention_days: z.int(),
  trash_hours: z.int(),
  two_keys: z.boolean(),
  require_export: z.boolean(),
  contacts: z.array(z.string()),
  notify_url: z.string().nullable(),
  actor: z.string().openapi({ description: "Name of the key that stored it last." }),
  created_at: Timestamp,
  updated_at: Timestamp,
}).openapi("Plan");

const tags = ["plans"];

const listPlans = createRoute({
  method: "get",
  path: "/v1/plans",
  "x-required-role": "viewer",
  tags,
  summary: "All plans.",
  responses: { 200: jsonContent(z.object({ plans: z.array(Plan) }), "The plans, by version."), ...problemResponses() },
});

const getPlan = createRoute({
  method: "get",
  path: "/v1/plans/{version}",
  "x-required-role": "viewer",
  tags,
  summary: "What a migration's backup must hold.",
  request: { params: VersionParameter },
  responses: { 200: jsonContent(Plan, "The plan."), ...problemResponses(404) },
});

const putPlan = createRoute({
  method: "put",
  path: "/v1/plans/{version}",
  "x-required-role": "operator",
  "x-audit-action": "plan.put",
  tags,
  summary: "Store a plan, or replace it. Everything that it names must exist.",
  request: { params: VersionParameter, body: jsonBody(PlanBody, { tables: ["profiles"] }) },
  responses: {
    200: jsonContent(Plan, "The plan replaced an earlier one."),
    201: jsonContent(Plan, "The plan is new."),
    ...problemResponses(409, 413, 415, 422),
  },
});

const deletePlan = createRoute({
  method: "delete",
  path: "/v1/plans/{version}",
  "x-required-role": "operator",
  "x-audit-action": "plan.delete",
  tags,
  summary: "Remove a plan that has no backup and no job under way, and forget a backup that is `missing`.",
  request: { params: VersionParameter },
  responses: { 204: { description: "It is gone." }, ...problemResponses(404, 409) },
});

export function plans(app: App) {
  app.openapi(listPlans, async (c) => c.json({ plans: await rpc(c.var.client, "list_plans", {}, z.array(Plan)) }, 200));

  app.openapi(getPlan, async (c) => c.json(await rpc(c.var.client, "get_plan", c.req.valid("param"), Plan), 200));

  app.openapi(putPlan, async (c) => {
    const parameters = { ...c.req.valid("param"), plan: c.req.valid("json"), actor: c.var.actor };
    await assertNotifyUrl(parameters.plan.notify_url, c.var.webhooks);
    const plan = await rpc(c.var.client, "put_plan", parameters, Plan).catch(async (problem) => {
      throw await withNearestNames(c.var.client, parameters.plan.schema, problem);
    });
    return c.json(plan, plan.created_at === plan.updated_at ? 201 : 200);
  });

  app.openapi(deletePlan, async (c) => {
    await rpc(c.var.client, "delete_plan", { ...c.req.valid("param"), actor: c.var.actor }, z.unknown());
    return c.body(null, 204);
  });
}
