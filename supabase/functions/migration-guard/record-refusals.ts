import { createMiddleware } from "hono/factory";
import type { AppEnv } from "./app.ts";
import { logError } from "./log-error.ts";
import type { FindOperation } from "./operations.ts";
import { Problem } from "./problems.ts";
import { jobIdOf, pathPattern, problemBody, versionOf } from "./request-facts.ts";
import { refusalRecorder } from "./refusal-recorder.ts";
import type { Client } from "./rpc.ts";

/**
 * Has the audit trail tell of every request that was refused for who asked (401, 403), by a guard or a state (409), or by a limit
 * (429): what the request itself had recorded is undone with it. The answer does not wait for that, nor depend on it.
 *
 * @param client For a request that has none, since it was not let in.
 */
export function recordRefusals(
  findOperation: FindOperation,
  client: () => Promise<Client>,
  waitUntil: (promise: Promise<unknown>) => void,
) {
  const record = refusalRecorder();
  return createMiddleware<AppEnv>(async (c, next) => {
    await next();
    const { status } = c.res;
    if (![401, 403, 409, 429].includes(status)) return;
    const problem = await problemBody(c.res);
    const guards = (problem?.guards ?? []) as { guard: string; passed: boolean; overridden?: boolean }[];
    const body = c.req.valid("json" as never) as { override?: { guard?: string } } | undefined;
    const parameters = {
      method: c.req.method,
      path: pathPattern(c),
      status,
      code: problem?.code,
      required: problem?.required,
      guards: problem?.guards &&
        guards.filter(({ passed, overridden }) => !passed && !overridden).map(({ guard }) => guard),
      // That it was tried. The reason is kept with what is done.
      override: body?.override && { guard: body.override.guard },
    };
    const refusal = {
      action: c.var.auditAction ?? findOperation(c)?.auditAction ?? "request",
      actor: c.var.actor,
      version: versionOf(c) ?? undefined,
      job_id: jobIdOf(c) ?? undefined,
      parameters: JSON.parse(JSON.stringify(parameters)),
    };
    const recorded = async () => await record(c.var.client ?? await client(), refusal);
    waitUntil(
      recorded().catch((error) =>
        logError("refusal_not_recorded", { code: error instanceof Problem ? error.code : String(error) })
      ),
    );
  });
}
