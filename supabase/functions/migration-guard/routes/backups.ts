import { createRoute, z } from "@hono/zod-openapi";
import { answerJob, jobResponses } from "../answer-job.ts";
import type { App } from "../app.ts";
import { DiffSummary } from "../diff-summary.ts";
import { emptyBodyIsNone } from "../empty-body-is-none.ts";
import { Override } from "../override.ts";
import { requester } from "../requester.ts";
import { rpc } from "../rpc.ts";
import {
  Guard,
  Job,
  JobHeaders,
  jsonBody,
  jsonContent,
  NullableTimestamp,
  problemResponses,
  Text,
  Timestamp,
  Version,
  VersionParameter,
} from "../schemas.ts";

const BackupTable = z.object({
  table: z.string().openapi({ description: "Schema and name of the table that was copied." }),
  backup_table: z.string(),
  row_count: z.int(),
  source_checksum: z.string(),
  backup_checksum: z.string(),
  bytes: z.int().openapi({ description: "Size of the copy on disk." }),
}).openapi("BackupTable");

const LastDiff = z.object({ is_clean: z.boolean(), summary: DiffSummary }).openapi("LastDiff", {
  description: "What the last diff found, in numbers; its job has the rest.",
});

const Backup = z.object({
  version: z.string(),
  schema: z.string().openapi({ description: "Schema that holds the copy." }),
  state: z.enum(["fresh", "stale", "migrated", "rolled_back", "damaged", "missing", "trashed"]).openapi({
    description:
      "`fresh`: nothing is known to have changed since the backup. `stale`: the last diff found drift or, where one backup is asked for, the schema is another now. `migrated`: the migration was signed off. `rolled_back`: a rollback was the last thing to happen. `damaged`: the last verification failed, or what was recorded cannot be read. `missing`: somebody dropped the backup's schema. `trashed`: cleaned up, and not dropped yet. Whether it was verified, `verified_ok` and `verified_at` tell.",
  }),
  backup_id: z.uuid(),
  actor: z.string().openapi({ description: "Name of the key that asked for it." }),
  created_at: Timestamp,
  manifest: z.string().openapi({
    description: "SHA-256 over everything that the backup recorded: note it outside of the database.",
  }),
  retention_days: z.int(),
  trash_hours: z.int(),
  two_keys: z.boolean(),
  require_export: z.boolean().openapi({ description: "As the plan said when the backup was taken; so it stays." }),
  verified_ok: z.boolean().nullable().openapi({
    description: "Outcome of the last verification; null where there was none.",
  }),
  verified_at: NullableTimestamp,
  confirmed_at: NullableTimestamp,
  confirmed_by: z.string().nullable(),
  confirmation_note: z.string().nullable(),
  last_diff: z.union([LastDiff, z.null()]),
  last_diff_at: NullableTimestamp,
  rolled_back_at: NullableTimestamp,
  rolled_back_by: z.string().nullable(),
  trashed_at: NullableTimestamp,
  trashed_by: z.string().nullable(),
  purge_after: NullableTimestamp.openapi({ description: "When a backup in the trash is dropped." }),
  metadata: z.record(z.string(), z.unknown()).nullable().openapi({
    description: "The row of `backup_metadata`: counts, snapshot, server version. Null while it cannot be read.",
  }),
  tables: z.array(BackupTable),
}).openapi("Backup");

const ChecklistItem = z.object({
  item: z.string().openapi({
    description:
      "Stable name of the item. Where the backup's schema is gone, `backup_there` stands for all that is read in it.",
  }),
  title: z.string(),
  required: z.boolean().openapi({
    description: "False where an item that has not passed is a warning, and no obstacle.",
  }),
  passed: z.boolean(),
  details: z.string(),
}).openapi("ChecklistItem");

const Expectation = z.strictObject({
  expected_manifest: z.string().regex(/^[0-9a-f]{64}$/, "is 64 hexadecimal digits").optional().openapi({
    description: "The manifest that was noted when the backup was taken: one more check, that it is still the same.",
  }),
}).openapi("VerificationExpectation");

const CleanupPlan = z.object({
  schema: z.string(),
  guards: z.array(Guard),
  token: z.string().openapi({ description: "Good for one cleanup. Only its hash is stored." }),
  token_expires_at: Timestamp,
  two_keys: z.boolean().openapi({ description: "Whether another key than this one must send the token." }),
  trash_hours: z.int().openapi({ description: "Hours for which the backup can be brought back; 0 drops it at once." }),
}).openapi("CleanupPlan");

const Restoration = z.strictObject({
  backup_id: z.uuid().optional().openapi({
    description: "One that is in the trash: `backup_id` of `GET /v1/backups`.",
  }),
});

const tags = ["backups"];
const params = VersionParameter;
const headers = JobHeaders;

const createBackup = createRoute({
  method: "post",
  path: "/v1/backups",
  "x-required-role": "operator",
  "x-audit-action": "backup",
  tags,
  summary: "Take the backup of a migration that has a plan.",
  request: { headers, body: jsonBody(z.strictObject({ version: Version }), { version: "v10.0" }) },
  responses: { ...jobResponses, ...problemResponses(404, 409, 413, 415) },
});

const listBackups = createRoute({
  method: "get",
  path: "/v1/backups",
  "x-required-role": "viewer",
  tags,
  summary: "Metadata of all backups.",
  responses: {
    200: jsonContent(z.object({ backups: z.array(Backup) }), "The backups, newest first."),
    ...problemResponses(),
  },
});

const getBackup = createRoute({
  method: "get",
  path: "/v1/backups/{version}",
  "x-required-role": "viewer",
  tags,
  summary: "Metadata of a backup: counts, sizes, times, actor, checksums, state.",
  request: { params },
  responses: { 200: jsonContent(Backup, "The backup."), ...problemResponses(404) },
});

const verifyBackup = createRoute({
  method: "post",
  path: "/v1/backups/{version}/verify",
  "x-required-role": "operator",
  "x-audit-action": "verify",
  tags,
  summary: "Run every integrity check: the result of the job is `{ok, failed, manifest, checks}`.",
  middleware: emptyBodyIsNone,
  request: { params, headers, body: { content: { "application/json": { schema: Expectation } } } },
  responses: { ...jobResponses, ...problemResponses(404, 409, 413, 415) },
});

const getChecklist = createRoute({
  method: "get",
  path: "/v1/backups/{version}/checklist",
  "x-required-role": "viewer",
  tags,
  summary: "The pre-migration checklist. Every item is evaluated now, which reads the backup again.",
  request: { params },
  responses: {
    200: jsonContent(
      z.object({ version: z.string(), ready: z.boolean(), items: z.array(ChecklistItem) }),
      "The items, and whether all that are required have passed.",
    ),
    ...problemResponses(404, 409),
  },
});

const confirmBackup = createRoute({
  method: "post",
  path: "/v1/backups/{version}/confirm",
  "x-required-role": "operator",
  "x-audit-action": "confirm",
  tags,
  summary: "Sign off the migration: the retention clock starts. The first sign-off stands.",
  request: {
    params,
    body: jsonBody(z.strictObject({ note: Text.trim().min(1).max(2000) }), { note: "All green since Monday." }),
  },
  responses: { 200: jsonContent(Backup, "The backup, with its sign-off."), ...problemResponses(404, 409, 413, 415) },
});

const getCleanupPlan = createRoute({
  method: "get",
  path: "/v1/backups/{version}/cleanup-plan",
  "x-required-role": "admin",
  "x-audit-action": "cleanup_plan",
  "x-changes": true,
  tags,
  summary: "Every guard of a cleanup, passed or blocked and why, and a one-time token that is valid for ten minutes.",
  request: { params },
  responses: {
    200: jsonContent(CleanupPlan.extend({ version: z.string(), allowed: z.boolean() }), "The guards, and the token."),
    ...problemResponses(404),
  },
});

const deleteBackup = createRoute({
  method: "delete",
  path: "/v1/backups/{version}",
  "x-required-role": "admin",
  "x-audit-action": "cleanup",
  tags,
  summary: "Put the backup into the trash, if every guard passes: asked here, and again where it is done.",
  description:
    "Its schema is renamed and closed to everybody but its owner. The worker drops it after the `trash_hours` of its plan, at once where those are 0.",
  request: {
    params,
    headers,
    body: jsonBody(
      z.strictObject({
        confirm: Text.openapi({ description: "Name of the schema that is to be dropped." }),
        token: Text.openapi({ description: "The token of the cleanup plan." }),
        override: Override.optional(),
      }),
      { confirm: "migration_backup_v10", token: "6f1c2a…" },
    ),
  },
  responses: { ...jobResponses, ...problemResponses(404, 409, 413, 415) },
});

const restoreFromTrash = createRoute({
  method: "post",
  path: "/v1/backups/{version}/restore-from-trash",
  "x-required-role": "admin",
  "x-audit-action": "restore_from_trash",
  tags,
  summary:
    "Undo a cleanup: bring a backup of a version back, the one that was put into the trash last unless another is named.",
  description:
    "The plan that it was taken by comes back with it where there is none now, or one that names other objects.",
  middleware: emptyBodyIsNone,
  request: { params, body: { content: { "application/json": { schema: Restoration } } } },
  responses: { 200: jsonContent(Backup, "The backup, as it was."), ...problemResponses(404, 409, 413, 415) },
});

/** Longest time that comparing the catalog may take, in milliseconds; the database ends it at 25 s. */
const catalogLimit = 26_000;

/** Longest time that reading a backup again may take, in milliseconds; the platform ends a REST request at 60 s. */
const checklistLimit = 55_000;

export function backups(app: App) {
  app.openapi(createBackup, async (c) => {
    const { version } = c.req.valid("json");
    return answerJob(
      c,
      await rpc(c.var.client, "create_backup", { version, ...requester(c) }, Job),
    );
  });

  app.openapi(
    listBackups,
    async (c) => c.json({ backups: await rpc(c.var.client, "list_backups", {}, z.array(Backup)) }, 200),
  );

  app.openapi(
    getBackup,
    async (c) => c.json(await rpc(c.var.client, "get_backup", c.req.valid("param"), Backup, catalogLimit), 200),
  );

  app.openapi(verifyBackup, async (c) => {
    const { version } = c.req.valid("param");
    const { expected_manifest } = c.req.valid("json");
    const parameters = { version, expected_manifest, ...requester(c) };
    return answerJob(c, await rpc(c.var.client, "verify_backup", parameters, Job));
  });

  app.openapi(getChecklist, async (c) => {
    const { version } = c.req.valid("param");
    const items = await rpc(c.var.client, "get_checklist", { version }, z.array(ChecklistItem), checklistLimit);
    return c.json({ version, ready: items.every((item) => item.passed || !item.required), items }, 200);
  });

  app.openapi(confirmBackup, async (c) => {
    const { version } = c.req.valid("param");
    return c.json(
      await rpc(c.var.client, "confirm_backup", { version, ...c.req.valid("json"), actor: c.var.actor }, Backup),
      200,
    );
  });

  app.openapi(getCleanupPlan, async (c) => {
    const { version } = c.req.valid("param");
    const [plan] = await rpc(c.var.client, "plan_cleanup", { version, actor: c.var.actor }, z.tuple([CleanupPlan]));
    return c.json({ version, allowed: plan.guards.every((guard) => guard.passed), ...plan }, 200);
  });

  app.openapi(deleteBackup, async (c) => {
    const { version } = c.req.valid("param");
    const parameters = { version, ...c.req.valid("json"), ...requester(c) };
    return answerJob(c, await rpc(c.var.client, "delete_backup", parameters, Job));
  });

  app.openapi(restoreFromTrash, async (c) => {
    const { version } = c.req.valid("param");
    const parameters = { version, ...c.req.valid("json"), actor: c.var.actor };
    return c.json(await rpc(c.var.client, "restore_from_trash", parameters, Backup), 200);
  });
}
