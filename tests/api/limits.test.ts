import { expect } from "vitest";
import { freePort } from "../../local/edge-runtime.ts";
import { startStack } from "../../local/stack.ts";
import { type Answer, type Api, caller, credentials, giveRoles, test as base } from "../support/api.ts";
import { examplePlan } from "../support/example.ts";
import { heldJob, lockTable } from "../support/held-job.ts";
import { until } from "../support/until.ts";

/** `test` with an API whose keys have their roles, and the limits that an installation begins with. */
const test = base.extend("limited", async ({ freshApi }) => {
  await giveRoles(freshApi);
  const { sql } = freshApi.database;
  await sql`
    update migration_guard.limits
    set max_jobs = default, changes_per_minute = default, refusals_per_minute = default, anonymous_refusals_per_minute = default`;
  await sql`truncate migration_guard.changing_requests`;
  return freshApi;
});

const setLimits = ({ database: { sql } }: Api, limits: Record<string, number>) =>
  sql`update migration_guard.limits set ${sql(limits)}`;
/** Has it be so many seconds later for all that was counted. */
const letPass = ({ database: { sql } }: Api, seconds: number) =>
  sql`update migration_guard.changing_requests set at = at - make_interval(secs => ${seconds})`;
const counted = async ({ database: { sql } }: Api) => (await sql`select from migration_guard.changing_requests`).length;

function expectLimited(answer: Answer, code: string) {
  expect(answer.json).toMatchObject({ status: 429, code, retry_after_seconds: expect.any(Number) });
  expect(answer.status).toBe(429);
  expect(Number(answer.headers.get("retry-after"))).toBe(answer.json.retry_after_seconds);
  expect(answer.json.retry_after_seconds).toBeGreaterThan(0);
}

type Operation = { "x-required-role"?: string; responses: Record<string, { headers?: object }> };

async function operations({ call }: Api) {
  const { json } = await call("GET", "/openapi.json");
  return Object.entries<Record<string, Operation>>(json.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      method: method.toUpperCase(),
      path: path.replace("{version}", "v10.0").replace("{name}", "nobody")
        .replace("{id}", "00000000-0000-4000-8000-000000000000"),
      operation,
    }))
  );
}

test("two functions on one database let sixty of a hundred changes through, twenty at once, and all that read", async ({ limited, onTestFinished }) => {
  const { name, port } = limited.database;
  const other = await startStack({ port: await freePort(), databasePort: port, database: name });
  onTestFinished(other.stop);
  const calls = [limited.call, caller(other.functionUrl)];
  for (const call of calls) await call("GET", "/v1/keys");
  // What is refused in the function itself is counted, too.
  const change = (i: number) =>
    calls[i % 2]!("PUT", `/v1/keys/key%20${i}`, { json: { role: i % 10 ? "viewer" : "king" } });
  const answers: Answer[] = [];
  await Promise.all(Array.from({ length: 20 }, async (_, client) => {
    for (let i = client; i < 100; i += 20) answers.push(await change(i));
  }));
  const refused = answers.filter(({ status }) => status === 429);
  expect(refused).toHaveLength(40);
  for (const answer of refused) expectLimited(answer, "rate_limited");
  for (const { status } of answers) expect([200, 400, 429]).toContain(status);
  for (const call of calls) {
    expectLimited(await call("PUT", "/v1/keys/k", { json: { role: "viewer" } }), "rate_limited");
    expect((await call("GET", "/v1/keys")).status).toBe(200);
  }
  const { json: { entries } } = await limited.call("GET", "/v1/audit?action=key.put&outcome=done&limit=200");
  expect(entries).toHaveLength(answers.filter(({ status }) => status === 200).length + 2);
});

test("each operation that changes something says that it is limited, and is; no other is", async ({ limited }) => {
  await setLimits(limited, { changes_per_minute: 1 });
  await limited.call("PUT", "/v1/keys/k", { json: { role: "viewer" } });
  const limitedOnes: string[] = [];
  for (const { name, method, path, operation } of await operations(limited)) {
    const answer = await limited.call(method, path);
    if (operation.responses[429]) {
      limitedOnes.push(name);
      expectLimited(answer, "rate_limited");
      expect(operation.responses[429].headers, name).toHaveProperty("Retry-After");
    } else {
      expect(answer.status, name).not.toBe(429);
    }
  }
  expect(limitedOnes.sort()).toEqual([
    "DELETE /v1/backups/{version}",
    "DELETE /v1/exports/{id}",
    "DELETE /v1/keys/{name}",
    "DELETE /v1/plans/{version}",
    "GET /v1/backups/{version}/cleanup-plan",
    "GET /v1/exports/{id}/removal-plan",
    "POST /v1/backups",
    "POST /v1/backups/{version}/confirm",
    "POST /v1/backups/{version}/diff",
    "POST /v1/backups/{version}/exports",
    "POST /v1/backups/{version}/restore-from-trash",
    "POST /v1/backups/{version}/rollback",
    "POST /v1/backups/{version}/verify",
    "POST /v1/exports/{id}/resume",
    "POST /v1/exports/{id}/verify",
    "POST /v1/imports",
    "PUT /v1/keys/{name}",
    "PUT /v1/plans/{version}",
  ]);
  expect(await counted(limited)).toBe(1);
});

test("a change is counted once, and so is what is refused for its role, its state or its form", async ({ limited }) => {
  const { call } = limited;
  await call("PUT", "/v1/plans/v10", { json: examplePlan });
  expect(await counted(limited)).toBe(1);
  const json = { version: "v10" };
  const headers = { "idempotency-key": "once" };
  const first = await call("POST", "/v1/backups", { json, headers, wait: 60 });
  const again = await call("POST", "/v1/backups", { json, headers });
  expect(again.json.id).toBe(first.json.id);
  expect(await counted(limited)).toBe(3);
  const answers = [
    await call("POST", "/v1/backups", { json, credentials: credentials.viewer }),
    await call("POST", "/v1/backups", { json }),
    await call("POST", "/v1/backups", { json: { version: "ten" } }),
    await call("DELETE", "/v1/plans/v9"),
  ];
  expect(answers.map(({ status }) => status)).toEqual([403, 409, 400, 404]);
  expect(await counted(limited)).toBe(7);
  await call("POST", "/v1/backups", { json, credentials: {} });
  await call("POST", "/v1/plans/v10/preflight");
  await call("POST", "/nowhere", { json });
  expect(await counted(limited)).toBe(7);
});

test("after the seconds of Retry-After the next request passes", async ({ limited }) => {
  await setLimits(limited, { changes_per_minute: 2 });
  const change = () => limited.call("PUT", "/v1/keys/k", { json: { role: "viewer" } });
  await change();
  await letPass(limited, 30);
  await change();
  const refused = await change();
  expectLimited(refused, "rate_limited");
  expect(refused.json.retry_after_seconds).toBeLessThanOrEqual(30);
  await letPass(limited, refused.json.retry_after_seconds);
  expect((await change()).status).toBe(200);
  expectLimited(await change(), "rate_limited");
  expect((await limited.call("PUT", "/v1/plans/v1", { json: examplePlan, credentials: credentials.operator })).status)
    .toBe(201);
});

test("a key with as many jobs as it may have is told to come again", async ({ limited }) => {
  const { call, database } = limited;
  await call("PUT", "/v1/plans/v10", { json: examplePlan });
  await call("POST", "/v1/backups", { json: { version: "v10" }, wait: 60 });
  await setLimits(limited, { max_jobs: 2, changes_per_minute: 10_000 });
  const { release } = await lockTable(database.connect("supabase_admin"), "public.profiles");
  const diff = (options = {}) => call("POST", "/v1/backups/v10/diff", { json: {}, ...options });
  expect((await diff()).status).toBe(202);
  await heldJob(database.sql);
  expect((await diff()).status).toBe(202);
  expectLimited(await diff(), "too_many_jobs");
  expect((await diff({ credentials: credentials.operator })).status).toBe(202);
  await release();
  await until(async () => (await diff()).status === 202);
});

test("a key that is over its limit can cancel its own job", async ({ limited }) => {
  const { call, database } = limited;
  await call("PUT", "/v1/plans/v10", { json: examplePlan });
  const { release } = await lockTable(database.connect("supabase_admin"), "public.profiles");
  const { json: job } = await call("POST", "/v1/backups", { json: { version: "v10" } });
  await heldJob(database.sql);
  await setLimits(limited, { changes_per_minute: 1 });
  expectLimited(await call("PUT", "/v1/keys/k", { json: { role: "viewer" } }), "rate_limited");
  const cancelled = await call("DELETE", `/v1/jobs/${job.id}`, { wait: 60 });
  expect(cancelled.json).toMatchObject({ id: job.id, status: "cancelled" });
  expect(await counted(limited)).toBe(2);
  await release();
});

test("that a key is over its limit stands in the trail once a minute, and how often it came again", async ({ limited }) => {
  const { call } = limited;
  await setLimits(limited, { changes_per_minute: 1 });
  const change = () => call("PUT", "/v1/plans/v1", { json: examplePlan, credentials: credentials.operator });
  await change();
  for (let i = 0; i < 10; i++) await change();
  const { sql } = limited.database;
  const counts = () => sql`select actor, status, told, left_out::int from migration_guard.refusal_counts`;
  await expect.poll(counts, { timeout: 60_000 }).toEqual([
    { actor: "night_shift", status: "429", told: 1, left_out: 9 },
  ]);
  await sql`update migration_guard.refusal_counts set since = since - interval '1 minute'`;
  const { json: { entries } } = await call("GET", "/v1/audit?actor=night_shift&outcome=refused");
  expect(entries).toMatchObject([
    { action: "refusals.left_out", parameters: { status: "429", times: 9, since: expect.any(String) } },
    { action: "plan.put", version: "v1.0", parameters: { status: 429, code: "rate_limited" } },
  ]);
});

test("whoever has no key adds only so many entries a minute to the trail, and the number of the others", async ({ limited }) => {
  const { call, database: { sql } } = limited;
  await setLimits(limited, { anonymous_refusals_per_minute: 5 });
  for (let i = 0; i < 20; i++) {
    await Promise.all(Array.from({ length: 10 }, () => call("GET", "/v1/plans", { credentials: {} })));
  }
  const counts = () => sql`select actor, status, told, left_out::int from migration_guard.refusal_counts`;
  await expect.poll(counts, { timeout: 60_000 }).toEqual([{ actor: null, status: "401", told: 5, left_out: 195 }]);
  // Their number is sent once a second, again and again.
  for (const left_out of [200, 205]) {
    for (let i = 0; i < 5; i++) await call("GET", "/v1/plans", { credentials: {} });
    await expect.poll(counts, { timeout: 20_000 }).toMatchObject([{ left_out }]);
  }
  await sql`update migration_guard.refusal_counts set since = since - interval '1 minute'`;
  const { json: { entries } } = await call("GET", "/v1/audit?outcome=refused");
  expect(entries.map(({ action }: { action: string }) => action)).toEqual(
    ["refusals.left_out", ...Array.from({ length: 5 }, () => "request")],
  );
  expect(entries[0]).toMatchObject({ actor: null, parameters: { status: "401", times: 205 } });
  expect((await call("GET", "/v1/audit/verify")).json).toMatchObject({ intact: true });
});
