import { createRoute, z } from "@hono/zod-openapi";
import { accepts } from "hono/accepts";
import { answerJob, jobResponses } from "../answer-job.ts";
import type { App } from "../app.ts";
import { RollbackOptions } from "../rollback-options.ts";
import { RollbackQuery } from "../rollback-query.ts";
import { rollbackScript } from "../rollback-script.ts";
import { requester } from "../requester.ts";
import { rpc } from "../rpc.ts";
import { Job, JobHeaders, jsonBody, problemResponses, VersionParameter } from "../schemas.ts";

const Statement = z.object({
  step: z.int(),
  object: z.string().openapi({ description: "Kind and name of the object that it leads back." }),
  reason: z.string().openapi({ description: "What has become of the object: renamed, redefined, missing, new, …" }),
  statement: z.string().openapi({ description: "The SQL that is run." }),
  effect: z.string().openapi({
    description: "`rename`, `metadata`, `scan` (reads the table), `rewrite` (writes it anew) or `rows` (writes rows).",
  }),
  lock: z.string().nullable().openapi({
    description: "The strongest lock that it takes.",
    example: "ACCESS EXCLUSIVE",
  }),
  on: z.string().nullable().openapi({ description: "The table that it locks." }),
  estimated_rows: z.number().nullable().openapi({
    description:
      "About how many rows it reads or writes. Null where it does neither (`rename`, `metadata`), and where nobody knows, since its table was not analyzed yet.",
  }),
}).openapi("RollbackStatement");

const TableRows = z.looseObject({
  table: z.string().openapi({ description: "The table, as the backup names it." }),
  now: z.string().nullable().openapi({ description: "What it is called now; null where it is gone." }),
  mode: z.enum(["keep", "restore"]),
  deleted_since: z.int().nullable().openapi({
    description:
      "With `restore`: rows of the backup that are there no more, and come back unless `leave_deleted` is said.",
  }),
}).openapi("RollbackTable");

const RollbackPlan = z.object({
  plan_hash: z.string().openapi({
    description: "Stands for the statements and for the catalog that they assume: a rollback runs this plan or none.",
  }),
  possible: z.boolean().openapi({ description: "False where something that cannot be undone bars the way." }),
  statements: z.array(Statement).openapi({
    description:
      "In the order in which they are run, in one transaction that is `read committed`. Where foreign keys stay in place and are not asked,\nthe last ones compare the rows with the backup, and fail where these differ: for whoever runs them by hand. A job compares\nall in the end, and leaves these out.",
  }),
  new_objects: z.array(z.looseObject({ object: z.string(), dropped: z.boolean() })).openapi({
    description: "What was created since the backup, and whether it is dropped or kept.",
  }),
  cannot_undo: z.array(z.looseObject({
    object: z.string(),
    why: z.string(),
    blocks: z.boolean().openapi({ description: "Whether the rollback is refused for it." }),
  })).openapi({ description: "What cannot be undone." }),
  left_as_is: z.array(z.looseObject({ object: z.string(), why: z.string() })).openapi({
    description: "What stays as it is now.",
  }),
  tables: z.array(TableRows).openapi({ description: "What becomes of the rows of each table." }),
  notes: z.array(z.string()).openapi({ description: "What else is worth knowing before." }),
});

const RollbackBody = RollbackOptions.extend({
  plan_hash: z.string().regex(/^[0-9a-f]{64}$/, "is 64 hexadecimal digits, as the rollback plan has them").openapi({
    description: "`plan_hash` of the rollback plan that was read. Options that are not said are those of the plan.",
  }),
  rehearse: z.boolean().default(false).openapi({
    description:
      "Run everything, compare the outcome, then undo it all, and tell what each statement took and which locks it held.",
  }),
}).openapi("RollbackBody");

const tags = ["backups"];

const getRollbackPlan = createRoute({
  method: "get",
  path: "/v1/backups/{version}/rollback-plan",
  "x-required-role": "operator",
  "x-audit-action": "rollback_plan",
  tags,
  summary: "The statements that lead back to the backup, what they cost, and what cannot be undone. Changes nothing.",
  description:
    "With `Accept: application/sql` (or `text/plain`) it is a script: the statements with comments, in one transaction.",
  request: { params: VersionParameter, query: RollbackQuery },
  responses: {
    200: {
      description: "The plan.",
      content: {
        "application/json": { schema: RollbackPlan.extend({ version: z.string() }).openapi("RollbackPlan") },
        "application/sql": { schema: z.string().openapi({ example: "begin;\n\n…\n\ncommit;\n" }) },
        "text/plain": { schema: z.string() },
      },
    },
    ...problemResponses(404, 409),
  },
});

const rollBack = createRoute({
  method: "post",
  path: "/v1/backups/{version}/rollback",
  "x-required-role": "admin",
  "x-audit-action": "rollback",
  tags,
  summary: "Run exactly the plan that was read, or nothing; or rehearse it.",
  description:
    "One transaction, which ends by comparing the live catalog with the backup: any difference undoes all. The result of\nthe job is `{rehearsed, no_op, statements, checklist, catalog, tables, blocked_by}`.",
  request: { params: VersionParameter, headers: JobHeaders, body: jsonBody(RollbackBody, { plan_hash: "6f1c2a…" }) },
  responses: { ...jobResponses, ...problemResponses(404, 409, 413, 415) },
});

const supports = ["application/json", "application/sql", "text/plain"];

/** Longest time that making the plan may take, in milliseconds; the database ends it at 55 s. */
const planLimit = 56_000;

export function rollback(app: App) {
  app.openapi(getRollbackPlan, async (c) => {
    const { version } = c.req.valid("param");
    const parameters = { version, options: c.req.valid("query"), actor: c.var.actor };
    const [found] = await rpc(c.var.client, "plan_rollback", parameters, z.tuple([RollbackPlan]), planLimit);
    const plan = { version, ...found };
    c.header("vary", "accept");
    const type = accepts(c, { header: "Accept", supports, default: "application/json" });
    if (type === "application/json") return c.json(plan, 200);
    return c.text(rollbackScript(plan), 200, { "content-type": `${type}; charset=utf-8` });
  });

  app.openapi(rollBack, async (c) => {
    const { version } = c.req.valid("param");
    const { plan_hash, rehearse, ...options } = c.req.valid("json");
    if (rehearse) c.set("auditAction", "rehearsal");
    const parameters = { version, plan_hash, options, rehearse, ...requester(c) };
    return answerJob(c, await rpc(c.var.client, "roll_back", parameters, Job, planLimit));
  });
}
