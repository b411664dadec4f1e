import type { ContentfulStatusCode } from "hono/utils/http-status";
import type { Role } from "./roles.ts";

/**
 * Every error that the API answers with: its stable code, HTTP status, title, and, where it starts in the database, the
 * SQLSTATE behind it. The only place where one is translated into the other; `docs/errors.md` is the same table in prose.
 */
export const problems = {
  invalid_request: { status: 400, title: "A parameter or the body is not of the documented form" },
  invalid_json: { status: 400, title: "The body is not JSON" },
  invalid_version: { status: 400, title: "The version is malformed", sqlstate: "MG001" },
  invalid_plan: { status: 400, title: "The plan is malformed", sqlstate: "MG002" },
  invalid_parameter: { status: 400, title: "A parameter is out of range", sqlstate: "MG003" },
  invalid_migration: { status: 400, title: "The migration file is not SQL that can be read" },
  invalid_recipients: { status: 400, title: "A recipient is none that can be encrypted for" },
  missing_credentials: { status: 401, title: "No credential" },
  invalid_credentials: { status: 401, title: "Unknown credential" },
  expired_token: { status: 401, title: "The token has expired" },
  service_role_required: { status: 403, title: "The credential is no service role" },
  role_required: { status: 403, title: "The key's role is not enough", sqlstate: "MG027" },
  not_found: { status: 404, title: "No such path" },
  plan_not_found: { status: 404, title: "No such plan", sqlstate: "MG004" },
  backup_not_found: { status: 404, title: "No such backup", sqlstate: "MG005" },
  job_not_found: { status: 404, title: "No such job", sqlstate: "MG006" },
  key_not_found: { status: 404, title: "No role was given to such a key", sqlstate: "MG029" },
  export_not_found: { status: 404, title: "No such export", sqlstate: "MG045" },
  method_not_allowed: { status: 405, title: "The path has no such method" },
  not_acceptable: { status: 406, title: "The path has no form that the client accepts" },
  plan_in_use: { status: 409, title: "The plan is in use", sqlstate: "MG008" },
  backup_exists: { status: 409, title: "The backup exists already", sqlstate: "MG009" },
  backup_in_progress: {
    status: 409,
    title: "A backup, import, rollback or cleanup of the version is under way",
    sqlstate: "MG010",
  },
  migration_already_applied: { status: 409, title: "The migration has run already", sqlstate: "MG011" },
  not_ready: { status: 409, title: "The checklist is not complete", sqlstate: "MG012" },
  cleanup_refused: { status: 409, title: "A guard refuses the cleanup", sqlstate: "MG013" },
  backup_damaged: { status: 409, title: "The backup is not whole", sqlstate: "MG019" },
  backup_locked: { status: 409, title: "Another session has locked the backup", sqlstate: "MG020" },
  plan_changed: { status: 409, title: "The rollback plan is no longer the one that was read", sqlstate: "MG021" },
  rollback_refused: { status: 409, title: "Something cannot be undone", sqlstate: "MG022" },
  export_in_use: { status: 409, title: "The export cannot be worked on in its state", sqlstate: "MG046" },
  untrusted_code: {
    status: 409,
    title: "Reading a table could run code of others as the product's owner",
    sqlstate: "MG040",
  },
  job_finished: { status: 409, title: "The job has ended already", sqlstate: "MG025" },
  idempotency_key_reused: { status: 409, title: "The Idempotency-Key came with another request", sqlstate: "MG026" },
  last_admin: { status: 409, title: "Another admin must do this", sqlstate: "MG028" },
  second_key_required: { status: 409, title: "Another key must do this", sqlstate: "MG035" },
  webhook_secret_missing: { status: 409, title: "The function has no secret to sign webhooks with" },
  body_too_large: { status: 413, title: "The body is larger than 1 MiB" },
  unsupported_media_type: { status: 415, title: "The body is not declared as what the path takes" },
  objects_not_found: { status: 422, title: "The plan names what does not exist", sqlstate: "MG007" },
  target_not_found: { status: 422, title: "The function has no such target" },
  rate_limited: { status: 429, title: "The key has asked for too many changes in a minute", sqlstate: "MG031" },
  too_many_jobs: { status: 429, title: "The key has too many jobs under way", sqlstate: "MG032" },
  internal_error: { status: 500, title: "Something went wrong in the function" },
  database_error: { status: 500, title: "Something went wrong in the database" },
  database_unavailable: { status: 503, title: "The database cannot be reached" },
  database_timeout: { status: 503, title: "The database took too long", sqlstate: "57014" },
  not_installed: { status: 503, title: "The database lacks the product's SQL, or REST does not expose it" },
  rest_refused: { status: 503, title: "REST refuses the key that the function was given" },
  parser_failed: { status: 503, title: "The parser of migration files has failed" },
  version_mismatch: { status: 503, title: "The function and its SQL are of different versions" },
} as const satisfies Record<string, { status: ContentfulStatusCode; title: string; sqlstate?: string }>;

export type ProblemCode = keyof typeof problems;

/** What a problem says besides its code. */
export type ProblemDetails = {
  /** One sentence for the reader: what happened, and what would fix it. */
  detail: string;
  /** What is wrong with each part of a request, or each name in a plan. */
  errors?: unknown[];
  /** Every condition that was evaluated, with its outcome. */
  guards?: unknown[];
  /** The hash of the rollback plan as it is now, and the statements that it has gained and lost since it was read. */
  plan_hash?: string;
  added?: unknown[];
  removed?: unknown[];
  /** Each object that a rollback cannot lead back, and why. */
  cannot_undo?: unknown[];
  /** The role of the key that asked, and the one that would do. */
  role?: Role;
  required?: Role;
  /** When to come again; the header `Retry-After` says the same. */
  retry_after_seconds?: number;
};

/** An error that the API answers with as `application/problem+json`. */
export class Problem extends Error {
  constructor(readonly code: ProblemCode, readonly details: ProblemDetails) {
    super(details.detail);
  }

  get status(): ContentfulStatusCode {
    return problems[this.code].status;
  }

  /** The answer of RFC 9457; `instance` is the id of the request. */
  toResponse(instance: string, headers: HeadersInit = {}): Response {
    const { status, title } = problems[this.code];
    // What is said comes before what is listed.
    const { detail, ...lists } = this.details;
    const body = {
      type: `urn:migration-guard:${this.code}`,
      title,
      status,
      code: this.code,
      detail,
      instance,
      ...lists,
    };
    const response = Response.json(body, { status, headers });
    response.headers.set("content-type", "application/problem+json");
    response.headers.set("x-request-id", instance);
    const { retry_after_seconds } = this.details;
    if (retry_after_seconds !== undefined) response.headers.set("retry-after", String(retry_after_seconds));
    if (status === 401) response.headers.set("www-authenticate", 'Bearer realm="migration-guard"');
    return response;
  }
}
