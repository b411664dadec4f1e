import type { PostgresConnection } from "@supabase/lite/postgres";

type DatabaseError = { code?: string; message: string; detail?: string; hint?: string };

/** Errors that a caller is answered with, and that nobody needs to see in this program's own log besides. */
const answered = new WeakSet<object>();

const { error: logError } = console;
console.error = (...values: unknown[]) => {
  if (!values.some((value) => typeof value === "object" && value !== null && answered.has(value))) {
    logError(...values);
  }
};

/**
 * Makes lite answer a database's error as PostgREST does. It passes on only the SQLSTATEs that it knows: a state of the
 * product's own class, a cancelled statement, a deadlock, or a lost connection would be a nameless 500, and a table that is
 * gone one that it never knew of.
 */
export function answerErrorsLikePostgrest(connection: PostgresConnection): void {
  const normalize = connection.normalizeDbError.bind(connection);
  connection.normalizeDbError = (thrown: unknown) => {
    const error = normalize(thrown) as DatabaseError;
    const { code = "" } = error ?? {};
    if (/^(ECONN|ENOTFOUND|ETIMEDOUT|CONNECT|CONNECTION_)|^57P/.test(code)) {
      return restError({ code: "PGRST001", message: "Database client error. Retrying the connection." }, 503);
    }
    if (code === "42P01") return restError(error, 404);
    if (/^(MG|40|57)[0-9A-Z]{3}$/.test(code)) return restError(error, code.startsWith("MG") ? 400 : 500);
    if (/^[0-9A-Z]{5}$/.test(code)) answered.add(error);
    return error;
  };
}

/** The form in which a function raises an answer of its own through PostgREST; lite understands it too. */
function restError({ code, message, detail, hint }: DatabaseError, status: number) {
  const error = {
    code: "PGRST",
    message: JSON.stringify({ code, message, details: detail ?? null, hint: hint ?? null }),
    detail: JSON.stringify({ status, headers: {} }),
  };
  answered.add(error);
  return error;
}
