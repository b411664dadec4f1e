import type { SupabaseClient } from "@supabase/supabase-js";
import type { z } from "zod";
import type { Database } from "./database.types.ts";
import { tryGetContext } from "hono/context-storage";
import type { AppEnv } from "./app.ts";
import { logError } from "./log-error.ts";
import { Problem, type ProblemCode, type ProblemDetails, problems } from "./problems.ts";
import { sourceOf } from "./request-facts.ts";

type Functions = Database["migration_guard_api"]["Functions"];

/** A client whose calls go to the schema `migration_guard_api`. */
export type Client = SupabaseClient<Database, "migration_guard_api">;

/** The API answers within 5 s when the database is away, so that a call has less. */
const timeLimit = 4500;

/**
 * Calls one of the database's functions over REST and gives its answer in the form that `schema` describes.
 *
 * @param limit Milliseconds until the call is given up.
 * @throws {Problem} What the database refused, or that it cannot be reached.
 */
export async function rpc<Name extends keyof Functions, Schema extends z.ZodType>(
  client: Client,
  name: Name,
  parameters: Functions[Name]["Args"],
  schema: Schema,
  limit = timeLimit,
): Promise<z.output<Schema>> {
  const tooLong = new AbortController();
  // Not AbortSignal.timeout, whose timer goes on when the answer is there, and wakes the process once more for each call.
  const timer = setTimeout(() => tooLong.abort(), limit);
  try {
    for (let again = true;; again = false) {
      const call = client.rpc(name, parameters).abortSignal(tooLong.signal);
      const callId = crypto.randomUUID();
      const headers = { ...requestHeaders(), "x-migration-guard-call": callId };
      for (const [header, value] of Object.entries(headers)) call.setHeader(header, value);
      const { data, error, status } = await call;
      if (!error) return schema.parse(data);
      // A backup has gone while the call read it. Nothing has been done: the next one sees what there is now.
      if (!again || error.code !== "42P01") throw toProblem(error, callId, status);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** What the database is told of the request besides the call itself: for the audit trail, and that it was counted already. */
function requestHeaders(): Record<string, string> {
  const c = tryGetContext<AppEnv>();
  if (!c) return {};
  const source = sourceOf(c);
  return {
    "x-migration-guard-request-id": c.var.requestId,
    ...(source ? { "x-migration-guard-source": source } : {}),
    ...(c.var.admission ? { "x-migration-guard-admission": c.var.admission } : {}),
  };
}

type RestError = { code?: unknown; message: string; details?: string | null };

/**
 * What an error of REST means to a caller. The database's messages are passed on only where the product wrote them: code of
 * the project may run in a call, too, and can raise what it likes, but does not repeat the call's id.
 */
export function toProblem({ code: anyCode, message, details }: RestError, callId: string, status = 0): Problem {
  const code = typeof anyCode === "string" ? anyCode : "";
  const [known] = Object.entries(problems).find(([, problem]) => "sqlstate" in problem && problem.sqlstate === code) ??
    [];
  const { call, ...more } = parseDetails(details);
  if (code.startsWith("MG") && known && call === callId) {
    return new Problem(known as ProblemCode, { detail: message, ...more });
  }
  if (code === "57014") {
    return new Problem("database_timeout", {
      detail:
        "The database cancelled the call at its time limit: it is busy, or a table is locked (a preflight tells by whom). Try again when that is over.",
    });
  }
  if (/^(55P03|40001|40P01)$/.test(code)) {
    return new Problem("database_timeout", {
      detail:
        "Another session holds a lock that the call needs, or came first. Nothing has changed: try again when that is over.",
    });
  }
  if (["PGRST106", "PGRST202", "PGRST125", "3F000"].includes(code)) {
    return new Problem("not_installed", {
      detail:
        "Run `supabase db push`, and expose the schema migration_guard_api under Data API in the project's settings.",
    });
  }
  if (code === "42501") {
    return new Problem("service_role_required", {
      detail:
        "The database refused: the key does not act as service_role, or the rights are not as they were installed.",
    });
  }
  if ((status === 401 || status === 403) && !/^[0-9A-Z]{5}$/.test(code)) {
    return new Problem("rest_refused", {
      detail: "The function's own secret key is no key of the project any more: deploy it again.",
    });
  }
  // No code at all: the request did not get through. PGRST00x: REST has no database. 08, 53, 57P: nor has it soon.
  if (code === "" || /^(PGRST00|08|25006|53|57P)/.test(code)) {
    return new Problem("database_unavailable", {
      detail:
        "The database cannot be reached, or did not answer in time. What should change something may have been done: look, and try again.",
    });
  }
  logError("rpc_failed", { code });
  return new Problem("database_error", {
    detail: `The database refused the call with SQLSTATE ${code}; its log has the whole message.`,
  });
}

function parseDetails(details?: string | null): Omit<ProblemDetails, "detail"> & { call?: string } {
  if (!details) return {};
  try {
    return JSON.parse(details) ?? {};
  } catch {
    return {};
  }
}
