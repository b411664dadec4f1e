import { createRoute, z } from "@hono/zod-openapi";
import { answerJob, jobResponses } from "../answer-job.ts";
import type { App } from "../app.ts";
import { emptyBodyIsNone } from "../empty-body-is-none.ts";
import { requester } from "../requester.ts";
import { rpc } from "../rpc.ts";
import { Job, JobHeaders, problemResponses, VersionParameter } from "../schemas.ts";

const DiffBody = z.strictObject({
  sample_keys: z.int().min(0).max(100).default(0).openapi({
    description: "Of how many rows of each table and kind (inserted, updated, deleted) the keys are told.",
    example: 5,
  }),
  include_values: z.boolean().default(false).openapi({
    description:
      "Whether the samples hold whole rows, which is an admin's to ask and to see. They are stored in the job, with who asked for them; other keys find `values_hidden` in its result, and keys alone.",
  }),
  exact: z.boolean().default(false).openapi({
    description:
      "Whether every value is compared. Otherwise a row that Postgres has not written anew since the backup counts as unchanged without being read, where that is certain, and so do definitions where no row of the system catalogs has been; `read` and `values_read_because` of each table, and of `catalog` `read` and `definitions_read_because`, tell which it was. Damage that did not come by SQL is only found by an exact diff.",
  }),
}).openapi("DiffBody");

const diffBackup = createRoute({
  method: "post",
  path: "/v1/backups/{version}/diff",
  "x-required-role": "operator",
  "x-audit-action": "diff",
  tags: ["backups"],
  summary:
    "What has changed since the backup: the result of the job is `{is_clean, summary, objects, tables, catalog}`.",
  description:
    "Schema and rows, backup against live. An object is followed by its identity, so that one that was renamed is\n`renamed`, not missing and new. A renamed table, column or enum value is no change of a row.",
  middleware: emptyBodyIsNone,
  request: {
    params: VersionParameter,
    headers: JobHeaders,
    body: { content: { "application/json": { schema: DiffBody } } },
  },
  responses: { ...jobResponses, ...problemResponses(404, 409, 413, 415) },
});

export function diff(app: App) {
  app.openapi(diffBackup, async (c) => {
    const { version } = c.req.valid("param");
    // Without a body nothing has set the defaults.
    const options = DiffBody.parse(c.req.valid("json") ?? {});
    if (options.include_values) c.set("auditAction", "diff.values");
    const parameters = { version, ...options, ...requester(c) };
    return answerJob(c, await rpc(c.var.client, "diff_backup", parameters, Job));
  });
}
