import { expect } from "vitest";
import { secretKeys, serviceRoleKey } from "../../local/keys.ts";
import { startApi, test } from "../support/api.ts";
import { examplePlan } from "../support/example.ts";

type Line = Record<string, unknown>;

/** An API with what its function has written so far, and its lines of one event. */
async function startWithLog() {
  let text = "";
  const api = await startApi("with_example", { onLog: (more) => void (text += more) });
  const lines = (event: string): Line[] =>
    text.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Line)
      .filter((line) => line.event === event);
  return { ...api, text: () => text, lines };
}

test("each request has one line, which leads to its job", async ({ onTestFinished }) => {
  const api = await startWithLog();
  onTestFinished(api.stop);
  const { call, lines } = api;
  await call("PUT", "/v1/plans/v10", { json: examplePlan, headers: { "x-request-id": "plan-1" } });
  const headers = { "x-request-id": "backup-1" };
  const { json: job } = await call("POST", "/v1/backups", { json: { version: "v10" }, wait: 60, headers });
  expect(job.status).toBe("succeeded");
  await call("GET", `/v1/jobs/${job.id}`, { headers: { "x-request-id": "job-1" } });
  await call("GET", "/v1/plans/v9", { headers: { "x-request-id": "missing-1" } });
  await call("GET", "/v1/plans", { credentials: {}, headers: { "x-request-id": "stranger-1" } });
  await call("HEAD", "/metrics", { headers: { "x-request-id": "head-1" } });

  await expect.poll(() => lines("request").some(({ request_id }) => request_id === "head-1")).toBe(true);
  const number = expect.any(Number);
  const line = (request_id: string) => lines("request").filter((line) => line.request_id === request_id);
  const usual = { level: "info", event: "request", job_id: null, code: null, duration_ms: number, actor: "default" };
  expect(line("plan-1")).toEqual([
    { ...usual, request_id: "plan-1", method: "PUT", path: "/v1/plans/{version}", version: "v10.0", status: 201 },
  ]);
  expect(line("backup-1")).toEqual([
    { ...usual, request_id: "backup-1", method: "POST", path: "/v1/backups", version: "v10.0", status: 200 },
  ]);
  expect(line("job-1")).toMatchObject([{ path: "/v1/jobs/{id}", job_id: job.id, version: null, status: 200 }]);
  expect(line("missing-1")).toMatchObject([{ status: 404, code: "plan_not_found", version: "v9.0", level: "info" }]);
  expect(line("stranger-1")).toMatchObject([{
    status: 401,
    code: "missing_credentials",
    actor: null,
    path: "/v1/plans",
  }]);
  expect(line("head-1")).toMatchObject([{ method: "HEAD", status: 200, path: "/metrics" }]);
});

test("an error of the function's own is at level error, with the request that it befell", async ({ onTestFinished }) => {
  const api = await startWithLog();
  onTestFinished(api.stop);
  const admin = api.database.connect("supabase_admin");
  await admin.unsafe(`
    create or replace function migration_guard_api.list_plans() returns setof migration_guard_api.plan
    language plpgsql stable security definer set search_path = pg_catalog, pg_temp
    as $$ begin raise exception 'SECRET' using errcode = '22012'; end $$`);
  const { status } = await api.call("GET", "/v1/plans", { headers: { "x-request-id": "broken-1" } });
  expect(status).toBe(500);
  await expect.poll(() => api.lines("request").find(({ request_id }) => request_id === "broken-1"))
    .toMatchObject({ level: "error", status: 500, code: "database_error" });
  expect(api.lines("rpc_failed")).toEqual([
    { level: "error", event: "rpc_failed", request_id: "broken-1", code: "22012" },
  ]);
  expect(api.text()).not.toContain("SECRET");
});

test("no key, no token, no value of a query and of no row is in the function's log", async ({ onTestFinished }) => {
  const api = await startWithLog();
  onTestFinished(api.stop);
  const { call, database: { sql } } = api;
  const wait = 60;
  await call("PUT", "/v1/plans/v10", { json: { ...examplePlan, title: "SECRET-TITLE" } });
  await call("POST", "/v1/backups", { json: { version: "v10" }, wait });
  await call("POST", "/v1/backups/v10/verify", { wait });
  await call("POST", "/v1/backups/v10/diff", { json: { include_values: true }, wait });
  const { json: plan } = await call("GET", "/v1/backups/v10/rollback-plan?data=keep");
  await call("POST", "/v1/backups/v10/rollback", { json: { plan_hash: plan.plan_hash, data: "keep" }, wait });
  await call("POST", "/v1/backups/v10/verify", { wait });
  await call("POST", "/v1/backups/v10/confirm", { json: { note: "SECRET-NOTE" } });
  await sql`update migration_guard.backups set confirmed_at = confirmed_at - interval '1 year'`;
  const { json: { token } } = await call("GET", "/v1/backups/v10/cleanup-plan");
  await call("DELETE", "/v1/backups/v10", { json: { confirm: "migration_backup_v10", token }, wait });
  // A key where none belongs: in a path, a query, a body, and as a credential that is refused.
  const strayKey = "sb_secret_stray_0123456789";
  await call("GET", `/v1/${strayKey}`);
  await call("GET", `/v1/plans/${strayKey}`);
  await call("GET", `/v1/jobs?version=${strayKey}`);
  await call("POST", "/v1/backups", { json: { version: strayKey } });
  await call("GET", "/v1/plans", { credentials: { apikey: strayKey } });
  await call("GET", "/v1/plans", { credentials: { authorization: `Bearer ${serviceRoleKey}` } });

  await expect.poll(() => api.lines("request").length).toBe(17);
  expect((await sql`select from migration_guard.jobs where status = 'succeeded'`).length).toBe(6);
  const rows = await sql<{ value: string }[]>`
    select email as value from public.profiles union select note from public.coordinator_notes
    union select code from public.invite_codes`;
  const values = rows.map(({ value }) => value).filter((value) => value.length > 7);
  expect(values.length).toBeGreaterThan(100);
  const secrets = [secretKeys.default, serviceRoleKey, strayKey, token, "SECRET", plan.plan_hash, ...values];
  expect(secrets.filter((secret) => api.text().includes(secret))).toEqual([]);
});
