import { createRoute, z } from "@hono/zod-openapi";
import { answerJob, jobResponses } from "../answer-job.ts";
import type { App } from "../app.ts";
import { emptyBodyIsNone } from "../empty-body-is-none.ts";
import { type Environment, ownTarget } from "../environment.ts";
import { openStore } from "../exports/open-store.ts";
import { Override } from "../override.ts";
import { Problem } from "../problems.ts";
import { requester } from "../requester.ts";
import { rpc } from "../rpc.ts";
import {
  ExportId,
  Guard,
  Job,
  JobHeaders,
  jsonBody,
  jsonContent,
  NullableTimestamp,
  problemResponses,
  Target,
  Text,
  Timestamp,
  VersionParameter,
} from "../schemas.ts";

const Export = z.object({
  id: ExportId,
  version: z.string(),
  backup_id: z.uuid(),
  target: z.string(),
  location: z.string().nullable().openapi({ description: "Where the target is; null before anything was written." }),
  recipients: z.array(z.string()).openapi({ description: "Whom it is encrypted for; none where it is not." }),
  state: z.enum(["writing", "complete", "removing", "removed"]).openapi({
    description:
      "`writing`: not whole; a job is at it, or it can be resumed. `complete`: everything is stored. `removing`: it is being removed, and counts for nothing. `removed`: it is gone.",
  }),
  actor: z.string(),
  created_at: Timestamp,
  finished_at: NullableTimestamp,
  chunks: z.int(),
  chunks_done: z.int(),
  objects: z.int().openapi({ description: "Objects that are stored." }),
  rows: z.int(),
  bytes: z.int().openapi({ description: "Bytes that are stored." }),
  text_bytes: z.int().openapi({ description: "Bytes of the rows as text, before they were compressed." }),
  manifest: z.string().openapi({ description: "The manifest of the backup that it is of." }),
  sums_sha256: z.string().nullable().openapi({
    description: "SHA-256 of `SHA256SUMS`, which has the sums of all other objects: note it outside of the store.",
  }),
  verified_ok: z.boolean().nullable().openapi({ description: "Outcome of the last verification." }),
  verified_at: NullableTimestamp,
  removed_at: NullableTimestamp,
  removed_by: z.string().nullable(),
}).openapi("Export");

const CreateExport = z.strictObject({
  target: Target.default(ownTarget),
  recipients: z.array(z.string().max(2100)).max(20).default([]).openapi({
    description:
      "age recipients (`age1…`): everything is encrypted for them before it leaves the function. None: not encrypted.",
  }),
}).openapi("CreateExport");

const tags = ["exports"];
const headers = JobHeaders;
const params = z.object({ id: ExportId.openapi({ param: { name: "id", in: "path" } }) });

const createExport = createRoute({
  method: "post",
  path: "/v1/backups/{version}/exports",
  "x-required-role": "operator",
  "x-audit-action": "export",
  tags,
  summary: "Write the backup to an object store.",
  description:
    "The job's result has the export's id, its sizes, and the sum to note. docs/export-format.md is its form.",
  middleware: emptyBodyIsNone,
  request: { params: VersionParameter, headers, body: { content: { "application/json": { schema: CreateExport } } } },
  responses: { ...jobResponses, ...problemResponses(404, 409, 413, 415, 422) },
});

const listExports = createRoute({
  method: "get",
  path: "/v1/backups/{version}/exports",
  "x-required-role": "viewer",
  tags,
  summary: "Exports of a version's backups, also of those that are gone: sizes, checksums and state.",
  request: { params: VersionParameter },
  responses: { 200: jsonContent(z.object({ exports: z.array(Export) }), "Newest first."), ...problemResponses() },
});

const getExport = createRoute({
  method: "get",
  path: "/v1/exports/{id}",
  "x-required-role": "viewer",
  tags,
  summary: "An export: sizes, checksums and state.",
  request: { params },
  responses: { 200: jsonContent(Export, "The export."), ...problemResponses(404) },
});

const verifyExport = createRoute({
  method: "post",
  path: "/v1/exports/{id}/verify",
  "x-required-role": "operator",
  "x-audit-action": "export.verify",
  tags,
  summary: "Read everything back and check every sum.",
  middleware: emptyBodyIsNone,
  request: {
    params,
    headers,
    body: {
      content: {
        "application/json": {
          schema: z.strictObject({
            stored_only: z.boolean().default(false).openapi({
              description: "Check what is stored, and do not decrypt it: for a function that has no identity.",
            }),
          }),
        },
      },
    },
  },
  responses: { ...jobResponses, ...problemResponses(404, 409, 413, 415) },
});

const resumeExport = createRoute({
  method: "post",
  path: "/v1/exports/{id}/resume",
  "x-required-role": "operator",
  "x-audit-action": "export.resume",
  tags,
  summary: "Go on with an export that has failed or was cancelled, after its last good chunk.",
  request: { params, headers },
  responses: { ...jobResponses, ...problemResponses(404, 409) },
});

const RemovalPlan = z.object({
  guards: z.array(Guard),
  token: z.string().openapi({ description: "Good for one removal. Only its hash is stored." }),
  token_expires_at: Timestamp,
  two_keys: z.boolean().openapi({ description: "Whether another key than this one must send the token." }),
});

const getRemovalPlan = createRoute({
  method: "get",
  path: "/v1/exports/{id}/removal-plan",
  "x-required-role": "admin",
  "x-audit-action": "export.removal_plan",
  "x-changes": true,
  tags,
  summary: "Every guard of a removal, passed or blocked and why, and a one-time token that is valid for ten minutes.",
  request: { params },
  responses: {
    200: jsonContent(RemovalPlan.extend({ id: ExportId, allowed: z.boolean() }), "The guards, and the token."),
    ...problemResponses(404),
  },
});

const deleteExport = createRoute({
  method: "delete",
  path: "/v1/exports/{id}",
  "x-required-role": "admin",
  "x-audit-action": "export.remove",
  tags,
  summary:
    "Remove an export from its store, if every guard passes: asked here, and again before the first object goes.",
  request: {
    params,
    headers,
    body: jsonBody(
      z.strictObject({
        confirm: Text.openapi({ description: "The id of the export." }),
        token: Text.openapi({ description: "The token of the removal plan." }),
        override: Override.optional(),
      }),
      { confirm: "v10.0-20261129T113335Z-8f3a2b1c", token: "6f1c2a…" },
    ),
  },
  responses: { ...jobResponses, ...problemResponses(404, 409, 413, 415) },
});

export function exports(app: App, environment: Environment) {
  app.openapi(createExport, async (c) => {
    const { version } = c.req.valid("param");
    const { target = ownTarget, recipients = [] } = c.req.valid("json");
    await assertTarget(target, environment);
    const parameters = { version, target, recipients: await readRecipients(recipients), ...requester(c) };
    return answerJob(c, await rpc(c.var.client, "create_export", parameters, Job));
  });

  app.openapi(listExports, async (c) => {
    const list = await rpc(c.var.client, "list_exports", c.req.valid("param"), z.array(Export));
    return c.json({ exports: list }, 200);
  });

  app.openapi(
    getExport,
    async (c) => c.json(await rpc(c.var.client, "get_export", c.req.valid("param"), Export), 200),
  );

  app.openapi(verifyExport, async (c) => {
    const { stored_only = false } = c.req.valid("json");
    const parameters = { ...c.req.valid("param"), stored_only, ...requester(c) };
    return answerJob(c, await rpc(c.var.client, "verify_export", parameters, Job));
  });

  app.openapi(resumeExport, async (c) => {
    const parameters = { ...c.req.valid("param"), ...requester(c) };
    return answerJob(c, await rpc(c.var.client, "resume_export", parameters, Job));
  });

  app.openapi(getRemovalPlan, async (c) => {
    const { id } = c.req.valid("param");
    const [plan] = await rpc(
      c.var.client,
      "plan_export_removal",
      { id, actor: c.var.actor },
      z.tuple([RemovalPlan]),
    );
    return c.json({ id, allowed: plan.guards.every((guard) => guard.passed), ...plan }, 200);
  });

  app.openapi(deleteExport, async (c) => {
    const parameters = { ...c.req.valid("param"), ...c.req.valid("json"), ...requester(c) };
    return answerJob(c, await rpc(c.var.client, "delete_export", parameters, Job));
  });
}

/** @throws {Problem} `target_not_found` */
export async function assertTarget(target: string, environment: Environment): Promise<void> {
  if (await openStore(target, environment)) return;
  const names = [ownTarget, ...Object.keys(environment.exports.targets)];
  throw new Problem("target_not_found", {
    detail: `There is no target ${target}: there is ${names.join(", ")}. EXPORT_TARGETS of the function names them.`,
  });
}

async function readRecipients(given: string[]): Promise<string[]> {
  if (given.length === 0) return [];
  const { parseRecipients } = await import("../exports/parse-recipients.ts");
  const { RecipientsError } = await import("../exports/recipients-error.ts");
  try {
    return await parseRecipients(given);
  } catch (error) {
    if (!(error instanceof RecipientsError)) throw error;
    const path = error.index === undefined ? "recipients" : `recipients.${error.index}`;
    throw new Problem("invalid_recipients", { detail: error.message, errors: [{ path, message: error.message }] });
  }
}
