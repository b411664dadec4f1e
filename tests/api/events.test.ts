import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import {
  connect,
  createPlatformRoles,
  createPlatformSchemas,
  loadExample,
  pushMigrations,
} from "../../local/database.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { removeData, startPostgres } from "../../local/postgres.ts";
import { startStack } from "../../local/stack.ts";
import { type Api, caller, startApi, test as base } from "../support/api.ts";
import { work } from "../support/backup.ts";
import { openStream } from "../support/event-stream.ts";

const nobody = "postgresql://nobody@127.0.0.1:1/none";

/** Nobody runs jobs here but the test, in the database. */
const test = base.extend("manual", { scope: "file" }, async ({}, { onCleanup }) => {
  const api = await startApi("with_example", { functionDatabaseUrl: nobody });
  onCleanup(api.stop);
  return api;
});

const text = { accept: "text/plain" };
let versions = 0;

/** Asks for a backup of its own, after what is to be done between the plan and that. */
async function askForBackup({ call }: Pick<Api, "call">, table = "profiles", before?: () => Promise<unknown>) {
  const version = `v${++versions}.1`;
  expect((await call("PUT", `/v1/plans/${version}`, { json: { tables: [table] } })).status).toBe(201);
  await before?.();
  const { status, json } = await call("POST", "/v1/backups", { json: { version } });
  expect(status).toBe(202);
  return { version, id: json.id as string, events: `/v1/jobs/${json.id}/events` };
}

/** Asks for a backup that waits for its table until `release` is called. */
async function askForHeldBackup(api: Api, table: string) {
  const session = await api.database.sql.reserve();
  const release = async () => {
    await session`rollback`;
    session.release();
  };
  await session`begin`;
  const job = await askForBackup(api, table, () => session`lock table ${session(table)} in access exclusive mode`);
  return { ...job, release };
}

test("a running job tells its progress while it runs, and its end, and then the stream ends", async ({ api }) => {
  const { id, events, release } = await askForHeldBackup(api, "profiles");
  const stream = await openStream(api.stack.functionUrl + events);
  await stream.until(() => stream.events().some(({ data }) => data.status === "running"));
  expect(stream.events().map(({ event }) => event)).not.toContain("end");
  await release();
  await stream.end();

  expect(stream.status).toBe(200);
  expect(Object.fromEntries(stream.headers)).toMatchObject({
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
    vary: expect.stringMatching(/accept/i),
  });
  expect(stream.text()).toMatch(/^retry: \d+\n\n/);
  const told = stream.events();
  expect(told.slice(0, -1).every(({ event }) => event === "progress")).toBe(true);
  expect(new Set(told.map((each) => each.id)).size).toBe(told.length);
  expect(told.at(-1)).toMatchObject({ event: "end", id: expect.stringMatching(/^\w+$/) });
  const { json } = await api.call("GET", `/v1/jobs/${id}`);
  expect(json).toMatchObject({ status: "succeeded" });
  expect(told.at(-1)!.data).toEqual(json);
});

test("nothing is compressed, which would hold back what is new", async ({ manual }) => {
  const { events } = await askForBackup(manual);
  for (const headers of [{}, text]) {
    const compressed = { ...headers, "accept-encoding": "gzip, br" };
    const stream = await openStream(`${manual.stack.edgeRuntime.url}/migration-guard${events}?pretty`, compressed);
    await stream.until(() => stream.text().includes("queued"));
    expect(stream.headers.get("content-encoding")).toBeNull();
    stream.leave();
  }
});

test("whoever comes back is told what is new, nothing twice, and in any case the end", async ({ manual }) => {
  const { sql } = manual.database;
  const { id, events } = await askForBackup(manual);
  const url = manual.stack.functionUrl + events;
  const first = await openStream(url);
  const [queued] = await first.until(() => first.events().length === 1 ? first.events() : undefined);
  expect(queued).toMatchObject({ event: "progress", data: { id, status: "queued" } });
  first.leave();

  // It knows all that there is: a sign of life comes, and no event.
  const second = await openStream(url, { "last-event-id": queued!.id! });
  await second.until(() => /^:/m.test(second.text()));
  expect(second.events()).toEqual([]);
  second.leave();

  // What it knows is old: the present state comes at once, before anything else happens.
  await sql`update migration_guard.jobs set started_at = now(), status = 'running' where id = ${id}`;
  const third = await openStream(url, { "last-event-id": queued!.id! });
  const [running] = await third.until(() => third.events().length > 0 ? third.events() : undefined);
  expect(running).toMatchObject({ event: "progress", data: { status: "running" } });
  expect(running!.id).not.toBe(queued!.id);
  third.leave();

  // The end came while nobody looked.
  await work(sql);
  const fourth = await openStream(url, { "last-event-id": running!.id! });
  await fourth.end();
  const [end, ...more] = fourth.events();
  expect(more).toEqual([]);
  expect(end).toMatchObject({ event: "end", data: { status: "succeeded" } });

  const fifth = await openStream(url, { "last-event-id": end!.id! });
  expect(fifth.status).toBe(204);

  // A newcomer is told of it as well.
  const sixth = await openStream(url);
  await sixth.end();
  expect(sixth.events()).toEqual([end]);
});

test("nobody asks the database any more when the client has gone", async ({ manual, onTestFinished }) => {
  const { rest, functionUrl, edgeRuntime } = manual.stack;
  const ask = rest.fetch;
  onTestFinished(() => void (rest.fetch = ask));
  let asked = 0;
  rest.fetch = (request) => {
    asked++;
    return ask(request);
  };
  const { events } = await askForBackup(manual);
  for (const base of [functionUrl, `${edgeRuntime.url}/migration-guard`]) {
    for (const headers of [{}, text]) {
      const before = asked;
      const stream = await openStream(base + events, headers);
      // The first answer is older than the stream.
      await stream.until(() => asked > before + 2);
      stream.leave();
      await expect.poll(async () => {
        const then = asked;
        // Longer than any pause between two looks.
        await sleep(4000);
        return asked - then;
      }, { timeout: 60_000 }).toBe(0);
    }
  }
});

test("a stream ends after a minute, having looked at most thirty times, and whoever comes back goes on where it was", async ({ manual, onTestFinished }) => {
  const { rest, functionUrl } = manual.stack;
  const { events } = await askForBackup(manual);
  const bar = await openStream(functionUrl + events, text);
  const ask = rest.fetch;
  onTestFinished(() => void (rest.fetch = ask));
  let looks = 0;
  rest.fetch = (request) => {
    if (request.url.endsWith("/get_job")) looks++;
    return ask(request);
  };
  const stream = await openStream(functionUrl + events);
  await Promise.all([stream.end(), bar.end()]);
  // Of both streams.
  expect(looks).toBeGreaterThan(10);
  expect(looks).toBeLessThanOrEqual(60);
  const [queued, reconnect, ...more] = stream.events();
  expect(more).toEqual([]);
  expect(reconnect).toMatchObject({ event: "reconnect", id: queued!.id });
  expect(bar.text()).toMatch(/\rThe job goes on\. Follow it again: curl -N .*\n$/);

  await work(manual.database.sql);
  const next = await openStream(functionUrl + events, { "last-event-id": reconnect!.id! });
  await next.end();
  expect(next.events()).toMatchObject([{ event: "end", data: { status: "succeeded" } }]);
});

test("a job that nobody runs is run when somebody follows it", async ({ api }) => {
  const { sql } = api.database;
  await sql`select migration_guard.put_plan('v901', '{"tables": ["profiles"]}', 'test')`;
  const [job] = await sql`select (migration_guard.enqueue_backup('v901', 'test')).id`;
  const stream = await openStream(`${api.stack.functionUrl}/v1/jobs/${job!.id}/events`);
  await stream.end();
  expect(stream.events().at(-1)).toMatchObject({ event: "end", data: { status: "succeeded" } });
});

test("a job that vanishes ends the stream with a problem", async ({ manual }) => {
  const { sql } = manual.database;
  for (const headers of [{}, text]) {
    const { id, events } = await askForBackup(manual);
    const stream = await openStream(manual.stack.functionUrl + events, headers);
    await stream.until(() => stream.text().includes("queued"));
    await sql`delete from migration_guard.jobs where id = ${id}`;
    await stream.end();
    if (headers === text) {
      expect(stream.text()).toMatch(/\rjob_not_found: There is no job [-0-9a-f]+\.\n$/);
    } else {
      const problem = { status: 404, code: "job_not_found", instance: stream.headers.get("x-request-id") };
      expect(stream.events().at(-1)).toMatchObject({ event: "error", data: problem });
    }
  }
});

test("as text it is one bar that is drawn anew, and a line that says how the job has ended", async ({ api }) => {
  const { version, events, release } = await askForHeldBackup(api, "invite_codes");
  const stream = await openStream(api.stack.functionUrl + events, text);
  await stream.until(() => stream.text().includes("["));
  expect(stream.text()).not.toContain("\n");
  await release();
  await stream.end();

  expect(stream.headers.get("content-type")).toMatch(/^text\/plain/);
  expect(stream.headers.get("cache-control")).toBe("no-store");
  const drawn = stream.text().split("\r");
  expect(drawn[0]).toBe("");
  expect(drawn.at(-1)).toMatch(new RegExp(`^backup ${version} succeeded after \\d+s\\.\n$`));
  for (const bar of drawn.slice(1, -2)) expect(bar).toMatch(new RegExp(`^backup ${version} \\[[#-]+\\] \\d+%.{20,}$`));
  for (const bar of drawn.slice(1, -1)) expect(bar).toHaveLength(79);
});

test("as text a failed job says why, and an ended one only that", async ({ manual }) => {
  const { sql } = manual.database;
  await sql`create table public.soon_gone (id int)`;
  const { version, id, events } = await askForBackup(manual, "soon_gone");
  const stream = await openStream(manual.stack.functionUrl + events, text);
  await sql`drop table public.soon_gone`;
  await work(sql);
  await stream.end();
  const { json: { status, error } } = await manual.call("GET", `/v1/jobs/${id}`);
  expect(status).toBe("failed");
  const line = stream.text().split("\r").at(-1)!;
  expect(line.replace(/\d+s/, "0s")).toBe(`backup ${version} failed after 0s: ${error.code}: ${error.message}\n`);
  const later = await openStream(manual.stack.functionUrl + events, { ...text, "last-event-id": "any" });
  await later.end();
  expect(later.text().trim()).toBe(line.trim());
});

test("the form is what the client accepts, events before text", async ({ manual }) => {
  const { id, events } = await askForBackup(manual);
  await work(manual.database.sql);
  for (
    const [accept, type] of [
      ["*/*", "text/event-stream"],
      ["text/*", "text/event-stream"],
      ["text/html, application/xhtml+xml, */*;q=0.8", "text/event-stream"],
      ["text/event-stream;q=0.5, text/plain", "text/plain"],
      ["text/event-stream;q=0, */*", "text/plain"],
    ]
  ) {
    const { status, headers } = await manual.call("GET", events, { headers: { accept: accept! } });
    expect(status, accept).toBe(200);
    expect(headers.get("content-type"), accept).toContain(type);
  }
  const refused = await manual.call("GET", `/v1/jobs/${id}/events`, { headers: { accept: "application/json" } });
  expect(refused.json).toMatchObject({ status: 406, code: "not_acceptable" });
});

test("what cannot be followed is refused before a stream begins", async ({ manual }) => {
  const unknown = "/v1/jobs/00000000-0000-4000-8000-000000000000/events";
  expect((await manual.call("GET", unknown)).json).toMatchObject({ status: 404, code: "job_not_found" });
  expect((await manual.call("GET", unknown, { headers: text })).json).toMatchObject({ status: 404 });
  expect((await manual.call("GET", "/v1/jobs/1/events")).json).toMatchObject({ status: 400, code: "invalid_request" });
  const { json } = await manual.call("GET", unknown, { credentials: {} });
  expect(json).toMatchObject({ status: 401, code: "missing_credentials" });
  expect((await manual.call("POST", unknown)).json).toMatchObject({ status: 405, code: "method_not_allowed" });
});

test("while the database is away the stream stays open, and goes on when it is back", async ({ onTestFinished }) => {
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-events-"));
  const dataDirectory = join(folder, "postgres");
  const databasePort = await freePort();
  const database = "postgres";
  const start = () => startPostgres({ dataDirectory, port: databasePort, settings: { fsync: "off" } });
  let server = await start();
  await createPlatformRoles(databasePort);
  await createPlatformSchemas({ port: databasePort, database });
  await pushMigrations({ port: databasePort, database });
  await loadExample({ port: databasePort, database });
  const stack = await startStack({ port: await freePort(), databasePort, database, functionDatabaseUrl: nobody });
  onTestFinished(async () => {
    await stack.stop();
    await server.stop();
    removeData(dataDirectory);
    rmSync(folder, { recursive: true, force: true });
  });
  const { events } = await askForBackup({ call: caller(stack.functionUrl) });
  const stream = await openStream(stack.functionUrl + events);
  const bar = await openStream(stack.functionUrl + events, text);
  await stream.until(() => stream.events().length === 1);

  await server.stop();
  await stream.until(() => stream.text().includes("\n: the database is away\n"));
  await bar.until(() => bar.text().includes("waiting for the database"));
  server = await start();
  const sql = connect({ port: databasePort, database });
  await work(sql);
  await sql.end();
  await Promise.all([stream.end(), bar.end()]);
  expect(stream.events().slice(1).map(({ event }) => event)).not.toContain("error");
  expect(stream.events().at(-1)).toMatchObject({ event: "end", data: { status: "succeeded" } });
  expect(bar.text()).toMatch(/ succeeded after \S+\.\n$/);
});
