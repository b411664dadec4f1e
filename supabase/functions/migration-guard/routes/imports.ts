import { createRoute, z } from "@hono/zod-openapi";
import { answerJob, jobResponses } from "../answer-job.ts";
import type { App } from "../app.ts";
import type { Environment } from "../environment.ts";
import { requester } from "../requester.ts";
import { rpc } from "../rpc.ts";
import { ExportId, Job, JobHeaders, jsonBody, problemResponses, Target, Version } from "../schemas.ts";
import { assertTarget } from "./exports.ts";

const Import = z.strictObject({
  export: ExportId,
  into: Version.openapi({
    description: "Version whose backup it becomes: that of the export, or another beside it. There must be none of it.",
  }),
  target: Target.optional().openapi({
    description:
      "Object store that has it. Unless it is named, the one that this database has put it into, or else the project's own (`supabase`).",
  }),
  expected_manifest: z.string().regex(/^[0-9a-f]{64}$/, "is 64 hexadecimal digits").optional().openapi({
    description:
      "The manifest that was noted when the backup was taken. It is what tells an export that somebody else has made, where this database does not know it.",
  }),
}).openapi("Import");

const createImport = createRoute({
  method: "post",
  path: "/v1/imports",
  "x-required-role": "admin",
  "x-audit-action": "import",
  tags: ["exports"],
  summary: "Make a backup again from an export, in the database that it was taken in or in another.",
  description:
    "It counts as verified when it is there: every check of the verification has passed. Its plan comes with it where there is none now, or one that names other objects.",
  request: {
    headers: JobHeaders,
    body: jsonBody(Import, { export: "v10.0-20261129T113335Z-8f3a2b1c", into: "v10.0" }),
  },
  responses: { ...jobResponses, ...problemResponses(409, 413, 415, 422) },
});

export function imports(app: App, environment: Environment) {
  app.openapi(createImport, async (c) => {
    const { into: version, ...parameters } = c.req.valid("json");
    if (parameters.target !== undefined) await assertTarget(parameters.target, environment);
    return answerJob(c, await rpc(c.var.client, "create_import", { version, ...parameters, ...requester(c) }, Job));
  });
}
