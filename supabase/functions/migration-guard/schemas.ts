import { z } from "@hono/zod-openapi";
import { Role } from "./roles.ts";
import { versionPattern } from "./version-pattern.ts";

export const Version = z.string()
  .regex(versionPattern, "reads v10, v10.0, v10.1 or is a 14-digit timestamp")
  .openapi({
    description: "Version of the migration: `v10` (the same as `v10.0`), `v10.1`, or a 14-digit Supabase timestamp.",
    example: "v10.0",
  });

export const Target = z.string()
  .regex(/^[a-z0-9_-]{1,63}$/, "has 1 to 63 of a-z, 0-9, _ and -")
  .openapi({
    description: "Where it goes: `supabase`, the project's own Storage, or a name of `EXPORT_TARGETS`.",
    example: "supabase",
  });

export const ExportId = z.string()
  .regex(
    /^(v[0-9]{1,6}(\.[0-9]{1,6})?|[0-9]{14})-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$/,
    "reads like v10.0-20261129T113335Z-8f3a2b1c",
  )
  .openapi({ description: "Id of the export, and name of its folder.", example: "v10.0-20261129T113335Z-8f3a2b1c" });

/** Text that Postgres can store. */
export const Text = z.string()
  .refine(
    (text) => !text.includes("\0") && text.isWellFormed(),
    "has neither a NUL character nor half a surrogate pair",
  );

export const JobParameter = z.object({ id: z.uuid().openapi({ param: { name: "id", in: "path" } }) });

export const VersionParameter = z.object({ version: Version.openapi({ param: { name: "version", in: "path" } }) });

/** REST servers differ in how they write a timestamptz: `2026-01-01 00:00:00+00` becomes `2026-01-01T00:00:00+00:00`. */
const toIso = (text: string) => text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00");

const timestamp = { format: "date-time", description: "ISO 8601, in UTC.", example: "2026-01-01T00:00:00+00:00" };

export const Timestamp = z.string().transform(toIso).openapi({ type: "string", ...timestamp });

export const NullableTimestamp = z.string().nullable().transform((text) => text && toIso(text))
  .openapi({ type: ["string", "null"], ...timestamp });

export const ProblemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.string().openapi({ description: "Stable code of the error, in snake_case." }),
  detail: z.string().openapi({ description: "What happened, and what would fix it." }),
  instance: z.string().openapi({ description: "Id of the request." }),
  errors: z.array(z.unknown()).optional().openapi({ description: "What is wrong with each part of the request." }),
  guards: z.array(z.unknown()).optional().openapi({
    description: "Every condition that was evaluated, with its outcome.",
  }),
  plan_hash: z.string().optional().openapi({ description: "With `plan_changed`: the hash of the plan as it is now." }),
  added: z.array(z.unknown()).optional().openapi({ description: "The statements that the plan has gained since." }),
  removed: z.array(z.unknown()).optional().openapi({ description: "The statements that it has lost since." }),
  cannot_undo: z.array(z.unknown()).optional().openapi({
    description: "With `rollback_refused`: each object that cannot be led back, and why.",
  }),
  role: Role.optional().openapi({ description: "With `role_required`: the role of the key that asked." }),
  required: Role.optional().openapi({ description: "With `role_required`: the role that would do." }),
  retry_after_seconds: z.int().optional().openapi({ description: "When to come again, as `Retry-After` says." }),
}).openapi("Problem");

export const Progress = z.object({
  step: z.string().openapi({ description: "What the job is at.", example: "copying public.profiles" }),
  done: z.int().openapi({ description: "Units of work that are done." }),
  total: z.int().nullable().openapi({ description: "Units of work in all; null until the job has reckoned them." }),
  unit: z.enum(["bytes", "objects", "rows", "statements"]).nullable(),
  percent: z.int().min(0).max(100),
  eta_seconds: z.int().min(0).nullable().openapi({
    description: "Seconds that the rest takes if it goes on as it has until now; null before anything is done.",
  }),
}).openapi("Progress");

export const Job = z.object({
  id: z.uuid(),
  kind: z.enum([
    "backup",
    "verify",
    "cleanup",
    "diff",
    "rollback",
    "purge",
    "export",
    "verify_export",
    "remove_export",
    "import",
  ]),
  rehearse: z.boolean().nullable().openapi({
    description: "Of a rollback: whether it is a rehearsal, which undoes all at its end. Null for other kinds.",
  }),
  version: z.string(),
  status: z.enum(["queued", "running", "succeeded", "failed", "cancelled"]),
  progress: Progress,
  result: z.record(z.string(), z.unknown()).nullable(),
  error: z.looseObject({
    code: z.string(),
    message: z.string(),
    contacts: z.array(z.string()).optional().openapi({ description: "Whom to call, when the job has failed." }),
  }).nullable(),
  actor: z.string(),
  created_at: Timestamp,
  started_at: NullableTimestamp,
  finished_at: NullableTimestamp,
  hint: z.string().optional().openapi({ description: "Who runs a queued job where this function cannot." }),
}).openapi("Job");

export type Job = z.output<typeof Job>;

export const Guard = z.object({
  guard: z.string().openapi({ description: "Stable name of the condition." }),
  passed: z.boolean(),
  overridden: z.boolean().openapi({ description: "It has not passed, and an admin's override stands for it." }),
  details: z.string().openapi({ description: "Why." }),
}).openapi("Guard");

/** The headers of a route that makes a job. */
export const JobHeaders = z.object({
  prefer: z.string().optional().openapi({
    description: "`wait=SECONDS` (RFC 7240): wait for the job to finish, 120 s at most.",
    example: "wait=60",
  }),
  "idempotency-key": z.string().regex(/^[\x20-\x7e]{1,255}$/, "has 1 to 255 printable ASCII characters").optional()
    .openapi({
      description:
        "A text of your own, for 24 hours: the same request with the same key gets the job that the first one has made, another request with it 409.",
      example: "v10.0-backup-1",
    }),
});

/** A query parameter of every path. */
export const Pretty = z.string().optional().openapi({
  description: "Indents the answer, as it does on any path.",
});

/** The query of a path that has no parameters of its own. */
export const NoQuery = z.strictObject({ pretty: Pretty });

/** The answers that any route may give besides its own, for the OpenAPI document. */
export const problemResponses = <Status extends number>(...statuses: Status[]) =>
  Object.fromEntries([400, 401, 403, 503, ...statuses].map((status) => [status, {
    description: `Problem (${status})`,
    content: { "application/problem+json": { schema: ProblemSchema } },
  }]));

/** A JSON answer, for the OpenAPI document. */
export const jsonContent = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  description,
  content: { "application/json": { schema } },
});

/** The text of a migration file as a body, for the OpenAPI document; `migrationText` reads it. */
export const migrationBody = (required: boolean) => ({
  required,
  content: {
    "application/sql": {
      schema: z.string().openapi({
        description: "The migration file itself, in UTF-8.",
        example: "drop table public.a;",
      }),
    },
    "text/plain": { schema: z.string() },
  },
});

/**
 * A JSON body that must be there: without `required` a request without a body would skip its validation.
 *
 * @param example The least that it may hold; whoever sends none is shown it.
 */
export const jsonBody = <Schema extends z.ZodType>(schema: Schema, example: z.input<Schema>) => ({
  required: true,
  content: { "application/json": { schema, example } },
});
