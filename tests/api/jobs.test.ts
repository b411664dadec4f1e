import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { databaseUrl } from "../../local/database-url.ts";
import { connect } from "../../local/database.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { serviceRoleKey } from "../../local/keys.ts";
import { type Api, startApi, test } from "../support/api.ts";
import { heldJob, lockTable } from "../support/held-job.ts";
import { slowTicks } from "../support/slow-ticks.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";
import { until } from "../support/until.ts";

const putPlan = async ({ call }: Api, version: string, tables = ["profiles"]) => {
  expect((await call("PUT", `/v1/plans/${version}`, { json: { tables } })).status).toBe(201);
};
const postBackup = ({ call }: Api, version: string, options: Parameters<Api["call"]>[2] = {}) =>
  call("POST", "/v1/backups", { json: { version }, ...options });
const schemas = async ({ database }: Api) =>
  (await database.sql`select nspname from pg_namespace where nspname ~ '^migration_backup' order by 1`)
    .map(({ nspname }) => nspname);
const ended = (api: Api, id: string) =>
  until(async () => {
    const { json } = await api.call("GET", `/v1/jobs/${id}`);
    return json.finished_at ? json : undefined;
  });

// Cancel

test("a running backup is cancelled, leaves no schema, and can be asked for again", async ({ freshApi: api }) => {
  await putPlan(api, "v1");
  const { release } = await lockTable(api.database.connect(), "public.profiles");
  const { json: { id } } = await postBackup(api, "v1");
  await heldJob(api.database.sql);
  const cancelled = await api.call("DELETE", `/v1/jobs/${id}`, { wait: 60 });
  expect(cancelled).toMatchObject({
    status: 200,
    json: {
      id,
      status: "cancelled",
      error: { code: "cancelled", message: "default has cancelled it. Nothing was changed." },
    },
  });
  expect(await schemas(api)).toEqual([]);
  expect((await api.call("DELETE", `/v1/jobs/${id}`)).json).toMatchObject({ status: 409, code: "job_finished" });
  await release();
  expect((await postBackup(api, "v1", { wait: 60 })).json).toMatchObject({ status: "succeeded" });
});

test("a backup that is copying a large table is cancelled, and whoever helps with it", async ({ freshApi: api }) => {
  const { sql } = api.database;
  await sql`
    create table public.big with (autovacuum_enabled = false, toast.autovacuum_enabled = false) as
    select n as id, jsonb_build_object('n', n, 'x', repeat('y', 300)) as doc from generate_series(1, 200000) as n`;
  await slowTicks(sql, { seconds: 0.05 });
  await putPlan(api, "v1", ["big"]);
  const { json: { id } } = await postBackup(api, "v1");
  // It is at a statement, and waits for nobody.
  await until(async () => {
    const [job] = await sql`
      select from migration_guard.jobs as j join pg_stat_activity as a on a.pid = j.worker_pid
      where j.id = ${id} and a.state = 'active' and a.wait_event_type is distinct from 'Lock'
        and migration_guard.job_progress(j) ->> 'step' = 'copying public.big'`;
    return job;
  });
  expect((await api.call("DELETE", `/v1/jobs/${id}`, { wait: 60 })).json).toMatchObject({
    status: "cancelled",
    error: { code: "cancelled" },
  });
  expect(await schemas(api)).toEqual([]);
  // The session that helps is told at the same time.
  await until(async () => (await sql`select from pg_locks where relation = 'public.big'::regclass`).length === 0);
});

test("a job that is not there, or not an id, is not cancelled", async ({ api: { call } }) => {
  expect((await call("DELETE", "/v1/jobs/00000000-0000-4000-8000-000000000000")).json).toMatchObject({
    status: 404,
    code: "job_not_found",
  });
  expect((await call("DELETE", "/v1/jobs/1")).json).toMatchObject({ status: 400, code: "invalid_request" });
});

test("where the function is not let in, a job waits, says what would run it, and is cancelled at once", async ({ onTestFinished }) => {
  const api = await startApi("with_example", { functionDatabaseUrl: databaseUrl({ port: await freePort() }) });
  onTestFinished(api.stop);
  await putPlan(api, "v1");
  expect((await api.call("GET", "/ready")).json).toMatchObject({ worker: "none" });
  const queued = await postBackup(api, "v1", { wait: 1 });
  expect(queued).toMatchObject({
    status: 202,
    json: { status: "queued", hint: expect.stringMatching(/call migration_guard\.work\(\).*schedule_worker/) },
  });
  expect(queued.headers.get("location")).toBe(`/v1/jobs/${queued.json.id}`);
  expect(queued.headers.get("retry-after")).toBe("1");
  expect(await api.call("DELETE", `/v1/jobs/${queued.json.id}`)).toMatchObject({
    status: 200,
    json: { status: "cancelled" },
  });

  const { json: { id } } = await postBackup(api, "v1");
  await api.database.sql`call migration_guard.work()`.simple();
  expect((await api.call("GET", `/v1/jobs/${id}`)).json).toMatchObject({ status: "succeeded" });
});

// Retry

test("the same request with the same key gets the same job, another one 409", async ({ freshApi: api }) => {
  await putPlan(api, "v1");
  await putPlan(api, "v2");
  const withKey = (key: string, version = "v1", options = {}) =>
    postBackup(api, version, { headers: { "idempotency-key": key }, wait: 60, ...options });
  const answers = await Promise.all(Array.from({ length: 10 }, () => withKey("first")));
  expect(new Set(answers.map(({ status, json }) => `${status} ${json.id} ${json.status}`)).size).toBe(1);
  expect(answers[0]).toMatchObject({ status: 200, json: { status: "succeeded" } });
  expect((await withKey("first", "v2")).json).toMatchObject({ status: 409, code: "idempotency_key_reused" });
  expect((await withKey("second")).json).toMatchObject({ status: 409, code: "backup_exists" });
  // A refusal is no job: the key is free for what succeeds.
  expect((await withKey("second", "v2")).json).toMatchObject({ status: "succeeded", version: "v2.0" });

  // Another kind of request, and the same of another actor, are others.
  const verify = (options: object) =>
    api.call("POST", "/v1/backups/v1/verify", { wait: 60, headers: { "idempotency-key": "first" }, ...options });
  expect((await verify({})).json).toMatchObject({ code: "idempotency_key_reused" });
  const bearer = { credentials: { authorization: `Bearer ${serviceRoleKey}` } };
  const verified = await verify(bearer);
  expect(verified.json).toMatchObject({ kind: "verify", actor: "service_role", status: "succeeded" });
  expect((await verify(bearer)).json.id).toBe(verified.json.id);

  // For a day.
  await api.database
    .sql`update migration_guard.idempotency_keys set created_at = created_at - interval '24 hours 1 second'`;
  expect((await verify(bearer)).json.id).not.toBe(verified.json.id);
});

test("a key that is no text of 1 to 255 characters is refused", async ({ api }) => {
  for (const key of ["", "x".repeat(256), "ü"]) {
    const answer = await postBackup(api, "v1", { headers: { "idempotency-key": key } });
    expect(answer.json, key).toMatchObject({ status: 400, code: "invalid_request" });
  }
});

// Many at once

test("fifty requests at once for one version make one backup, and forty-nine clear answers", async ({ freshApi: api }) => {
  await putPlan(api, "v1");
  const answers = await Promise.all(Array.from({ length: 50 }, () => postBackup(api, "v1", { wait: 60 })));
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  const refused = answers.filter(({ status }) => status === 409);
  expect(refused).toHaveLength(49);
  for (const { json } of refused) expect(["backup_in_progress", "backup_exists"]).toContain(json.code);
  expect(await schemas(api)).toEqual(["migration_backup_v1"]);
});

test("twenty different backups at once are all taken", async ({ freshApi: api }) => {
  const versions = Array.from({ length: 20 }, (_, i) => `v${i + 1}.0`);
  for (const version of versions) await putPlan(api, version, ["profiles", "invite_codes"]);
  const answers = await Promise.all(versions.map((version) => postBackup(api, version, { wait: 120 })));
  for (const { json } of answers) expect((await ended(api, json.id)).status).toBe("succeeded");
  expect(await schemas(api)).toHaveLength(20);
});

test("a backup that waits holds up none of another schema", async ({ freshApi: api }) => {
  await api.database.sql`create schema held`;
  await api.database.sql`create table held.notes (id int primary key)`;
  expect((await api.call("PUT", "/v1/plans/v1", { json: { schema: "held", tables: "*" } })).status).toBe(201);
  await putPlan(api, "v2", ["invite_codes"]);
  const { release } = await lockTable(api.database.connect(), "held.notes");
  const { json: { id } } = await postBackup(api, "v1");
  const { worker_pid } = await heldJob(api.database.sql);
  const { json: { id: other } } = await postBackup(api, "v2");
  expect(await ended(api, other)).toMatchObject({ status: "succeeded" });
  const [{ pid }] = await api.database.sql<
    [{ pid: number }]
  >`select worker_pid as pid from migration_guard.jobs where id = ${other}`;
  expect(pid).not.toBe(worker_pid);
  await release();
  await ended(api, id);
});

// What may happen to whom

test("a backup completes when the function is killed", async ({ freshApi: api }) => {
  await putPlan(api, "v1");
  const { release } = await lockTable(api.database.connect(), "public.profiles");
  const { json: { id } } = await postBackup(api, "v1");
  const { worker_pid } = await heldJob(api.database.sql);
  process.kill(api.stack.edgeRuntime.pid, "SIGKILL");
  await api.stack.edgeRuntime.stop();
  await release();
  const job = await until(async () => {
    const [job] = await api.database
      .sql`select status, worker_pid, attempts from migration_guard.jobs where id = ${id} and finished_at is not null`;
    return job;
  });
  expect(job).toEqual({ status: "succeeded", worker_pid, attempts: 1 });
});

test.for(["succeeded", "cancelled"])(
  "a job ends in its first session though its client's connection is reset: %s",
  async (status, { freshApi: api }) => {
    await putPlan(api, "v1");
    const { sql, port, name } = api.database;
    const { release } = await lockTable(api.database.connect(), "public.profiles");
    const proxy = await startTcpProxy(port);
    const client = connect({ port: proxy.port, database: name });
    await sql`select migration_guard.enqueue_backup('v1', 'test')`;
    const called = client`call migration_guard.work()`.simple().catch((error: Error) => error);
    const { id, worker_pid } = await heldJob(sql);
    proxy.reset();
    expect(await called).toBeInstanceOf(Error);
    if (status === "cancelled") await sql`select migration_guard.cancel_job(${id}, 'test')`;
    else await release();
    const job = await until(async () => {
      const [job] =
        await sql`select status, worker_pid, attempts from migration_guard.jobs where id = ${id} and finished_at is not null`;
      return job;
    });
    expect(job).toEqual({ status, worker_pid, attempts: 1 });
    if (status === "cancelled") await release();
    await client.end({ timeout: 0 });
    await proxy.stop();
  },
);

test("a job whose session is terminated is claimed again, and completes", async ({ freshApi: api }) => {
  await putPlan(api, "v1");
  const { release } = await lockTable(api.database.connect(), "public.profiles");
  const { json: { id } } = await postBackup(api, "v1");
  const { worker_pid } = await heldJob(api.database.sql);
  await api.database.sql`select pg_terminate_backend(${worker_pid}, 60000)`;
  await release();
  expect(await ended(api, id)).toMatchObject({ status: "succeeded" });
  const [job] = await api.database.sql`select attempts, lost_workers from migration_guard.jobs where id = ${id}`;
  expect(job).toMatchObject({ attempts: 2, lost_workers: [{ pid: worker_pid, attempt: 1 }] });
});

test("a job completes though the network to the database is away for ten seconds", async ({ onTestFinished, database }) => {
  const proxy = await startTcpProxy(database.port);
  const api = await startApi("with_example", {}, { rest: proxy.port, worker: proxy.port });
  onTestFinished(async () => {
    await api.stop();
    await proxy.stop();
  });
  await putPlan(api, "v1");
  const { release } = await lockTable(api.database.connect(), "public.profiles");
  const { json: { id } } = await postBackup(api, "v1");
  await heldJob(api.database.sql);
  proxy.cut();
  await release();
  expect((await api.call("GET", `/v1/jobs/${id}`)).json).toMatchObject({ status: 503, code: "database_unavailable" });
  await sleep(10_000);
  proxy.mend();
  expect(await ended(api, id)).toMatchObject({ status: "succeeded" });
  expect((await api.call("POST", "/v1/backups/v1/verify", { wait: 60 })).json).toMatchObject({ status: "succeeded" });
});

test("a job completes though the network to the database swallows everything for ten seconds", async ({ onTestFinished, database }) => {
  const proxy = await startTcpProxy(database.port);
  const api = await startApi("with_example", {}, { rest: proxy.port, worker: proxy.port });
  onTestFinished(async () => {
    await proxy.stop();
    await api.stop();
  });
  await putPlan(api, "v1");
  const { release } = await lockTable(api.database.connect(), "public.profiles");
  const { json: { id } } = await postBackup(api, "v1");
  const { worker_pid } = await heldJob(api.database.sql);
  proxy.swallow();
  await release();
  expect((await api.call("GET", `/v1/jobs/${id}`)).json).toMatchObject({ status: 503, code: "database_unavailable" });
  expect((await postBackup(api, "v1")).json).toMatchObject({ status: 503, code: "database_unavailable" });
  expect((await api.call("GET", "/health")).status).toBe(200);
  await sleep(10_000);
  proxy.mend();
  expect(await ended(api, id)).toMatchObject({ status: "succeeded" });
  const [job] = await api.database.sql`select worker_pid, attempts from migration_guard.jobs where id = ${id}`;
  expect(job).toEqual({ worker_pid, attempts: 1 });
  expect((await api.call("POST", "/v1/backups/v1/verify", { wait: 60 })).json).toMatchObject({ status: "succeeded" });
});

test("a job completes, and the next one too, though the worker's connection is dead and nobody says so", async ({ onTestFinished, database }) => {
  const proxy = await startTcpProxy(database.port);
  const api = await startApi("with_example", {}, { worker: proxy.port });
  onTestFinished(async () => {
    await proxy.stop();
    await api.stop();
  });
  await putPlan(api, "v1");
  const { release } = await lockTable(api.database.connect(), "public.profiles");
  const { json: { id } } = await postBackup(api, "v1");
  const { worker_pid } = await heldJob(api.database.sql);
  proxy.forget();
  const waiting = api.call("GET", `/v1/jobs/${id}/events`);
  await release();
  expect((await waiting).text).toMatch(/^event: end$/m);
  const [job] = await api.database.sql`select status, worker_pid, attempts from migration_guard.jobs where id = ${id}`;
  expect(job).toEqual({ status: "succeeded", worker_pid, attempts: 1 });
  // The function's call is never answered, and holds up nobody.
  const next = await api.call("POST", "/v1/backups/v1/verify", { wait: 60 });
  expect(next.json).toMatchObject({ status: "succeeded" });
  expect((await api.call("GET", "/ready")).json).toMatchObject({ worker: "function" });
});

test.for([["ahead", 3_600_000], ["behind", -3_600_000]] as const)(
  "a clock that is an hour %s in the function does no harm",
  async ([, offset], { onTestFinished }) => {
    const folder = mkdtempSync(join(tmpdir(), "migration-guard-clock-"));
    const preload = join(folder, "clock.ts");
    writeFileSync(
      preload,
      `const now = Date.now;
    globalThis.Date = class extends Date {
      constructor(...parts: unknown[]) { super(...(parts.length === 0 ? [now() + ${offset}] : parts) as [number]); }
      static override now() { return now() + ${offset}; }
    } as DateConstructor;
    console.log("the clock is wrong: " + new Date().toISOString());\n`,
    );
    let log = "";
    const api = await startApi("with_example", { preload, onLog: (text) => log += text });
    onTestFinished(async () => {
      await api.stop();
      rmSync(folder, { recursive: true });
    });
    const [, shown] = /the clock is wrong: (\S+)/.exec(log)!;
    expect(Math.abs(Date.parse(shown!) - Date.now() - offset)).toBeLessThan(600_000);
    const credentials = { authorization: `Bearer ${serviceRoleKey}` };
    await putPlan(api, "v1");
    const backup = await postBackup(api, "v1", { wait: 60, credentials });
    expect(backup.json).toMatchObject({ status: "succeeded", actor: "service_role" });
    expect(Math.abs(Date.parse(backup.json.finished_at) - Date.now())).toBeLessThan(600_000);
    const events = await api.call("GET", `/v1/jobs/${backup.json.id}/events`);
    expect(events.text).toContain("event: end");
    const verified = await api.call("POST", "/v1/backups/v1/verify", { wait: 60 });
    expect(verified.json).toMatchObject({ status: "succeeded", progress: { percent: 100 } });
  },
);
