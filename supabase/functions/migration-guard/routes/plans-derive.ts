import { createRoute, z } from "@hono/zod-openapi";
import type { App } from "../app.ts";
import { migrationText } from "../migration-text.ts";
import { Problem } from "../problems.ts";
import { rpc } from "../rpc.ts";
import { jsonContent, migrationBody, Pretty, problemResponses, Text, VersionParameter } from "../schemas.ts";

const Line = z.int().nullable().openapi({ description: "Line of the file, from 1; null for the file as a whole." });

const Warning = z.object({
  line: Line,
  code: z.string().openapi({ description: "Stable code of the warning; docs/errors.md lists them." }),
  statement: z.string().openapi({ description: "The statement in a few words." }),
  detail: z.string().openapi({ description: "What cannot be answered for, and what to do about it." }),
}).openapi("DerivedWarning");

const DerivedPlan = z.object({
  version: z.string(),
  plan: z.object({
    schema: z.string(),
    tables: z.array(z.string()),
    enums: z.array(z.string()),
    functions: z.array(z.string()),
  }).openapi({ description: "In the form that PUT takes. Everything that it leaves out has its default there." }),
  objects: z.array(z.object({
    kind: z.string(),
    identity: z.string(),
    reason: z.string().openapi({ description: "The statement that names it, or how a change of another reaches it." }),
    line: Line,
  })).openapi({ description: "Each object that the migration touches or changes in passing." }),
  warnings: z.array(Warning).openapi({ description: "What no plan can answer for, by line." }),
}).openapi("DerivedPlan");

const derivePlan = createRoute({
  method: "post",
  path: "/v1/plans/{version}/derive",
  "x-required-role": "operator",
  "x-changes": false,
  tags: ["plans"],
  summary: "The plan that a migration file needs: what its statements touch, and what depends on that. Stores nothing.",
  request: {
    params: VersionParameter,
    query: z.strictObject({
      schema: Text.min(1).max(63).default("public").openapi({ description: "Schema of the plan." }),
      pretty: Pretty,
    }),
    body: migrationBody(true),
  },
  responses: {
    200: jsonContent(DerivedPlan, "The plan, the reasons, and the warnings."),
    ...problemResponses(413, 415, 422),
  },
});

/** Longest time that the catalog may be searched, in milliseconds. */
const searchLimit = 30_000;

export function plansDerive(app: App) {
  app.openapi(derivePlan, async (c) => {
    const { version } = c.req.valid("param");
    const { schema } = c.req.valid("query");
    const text = await migrationText(c.req);
    if (text === "") throw new Problem("invalid_request", { detail: "The body is the text of the migration file." });
    const { parseMigration } = await import("../derive/parse-migration.ts");
    const { touches, warnings } = await parseMigration(text, schema);
    const parameters = { version, schema, touches, actor: c.var.actor };
    const found = await rpc(c.var.client, "derive_plan", parameters, DerivedPlan, searchLimit);
    const all = [...warnings, ...found.warnings].sort((a, b) => (a.line ?? Infinity) - (b.line ?? Infinity));
    return c.json({ ...found, warnings: all }, 200);
  });
}
