import postgres from "postgres";
import { expect, onTestFinished, test as plainTest } from "vitest";
import { databaseUrl } from "../../local/database-url.ts";
import { backUp, lastJob, work } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";
import { createOwnServer } from "../support/own-server.ts";

type Line = Record<string, unknown>;

/** A connection, and the lines of jobs that it was told. */
function listen({ port, name }: TestDatabase, user = "postgres", connection: Record<string, string> = {}) {
  const lines: Line[] = [];
  const sql = postgres(databaseUrl({ port, database: name, user }), {
    max: 1,
    connection: { client_min_messages: "log", ...connection },
    onnotice: ({ message }) => message?.startsWith("{") && lines.push(JSON.parse(message) as Line),
  });
  onTestFinished(() => sql.end({ timeout: 1 }));
  return { sql, lines };
}

const steps = (lines: Line[]) => lines.map(({ kind, from, to }) => `${kind} ${from} ${to}`);

test("the life of a backup is told step by step, to whoever runs the worker", async ({ example }) => {
  const { sql, lines } = listen(example);
  await backUp(sql, "v10", examplePlan);
  await sql`select migration_guard.enqueue_verification('v10', 'robot', 'request-7')`;
  await work(sql);
  await sql`select migration_guard.confirm_backup('v10', 'done', 'test')`;
  await sql`update migration_guard.backups set confirmed_at = confirmed_at - interval '1 year'`;
  const [{ token }] = await sql<[{ token: string }]>`select token from migration_guard.plan_cleanup('v10', 'test')`;
  await sql`select migration_guard.enqueue_cleanup('v10', 'migration_backup_v10', ${token}, 'test')`;
  await work(sql);
  expect(steps(lines)).toEqual(
    ["backup", "verify", "cleanup"].flatMap((
      kind,
    ) => [`${kind} null queued`, `${kind} queued running`, `${kind} running succeeded`]),
  );
  const job = await sql`
    select id, (extract(epoch from finished_at - started_at) * 1000)::int as ran from migration_guard.jobs where kind = 'verify'`;
  expect(lines[5]).toEqual({
    ...{ level: "info", event: "job", job_id: job[0]!.id, kind: "verify", version: "v10.0" },
    ...{ from: "running", to: "succeeded", actor: "robot", request_id: "request-7", attempt: 1 },
    ...{ duration_ms: job[0]!.ran, error_code: null },
  });
});

test("a job that fails is told with its code, and one that is claimed again as such", async ({ example }) => {
  const { sql, lines } = listen(example);
  await sql`select migration_guard.put_plan('v10', ${sql.json(examplePlan)}, 'test')`;
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
  await sql`update migration_guard.jobs set status = 'running', attempts = 1, started_at = now() - interval '1 minute'`;
  await sql`create schema migration_backup_v10`;
  await work(sql);
  expect(steps(lines)).toEqual([
    "backup null queued",
    "backup queued running",
    "backup running running",
    "backup running failed",
  ]);
  expect(lines[2]).toMatchObject({ level: "warn", attempt: 2 });
  expect(lines[2]!.duration_ms).toBeGreaterThanOrEqual(60_000);
  expect(lines[3]).toMatchObject({ level: "error", error_code: "backup_exists" });
});

test("what is undone is not told", async ({ example }) => {
  const { sql, lines } = listen(example);
  await sql`select migration_guard.put_plan('v10', ${sql.json(examplePlan)}, 'test')`;
  await sql.begin(async (transaction) => {
    await transaction`select migration_guard.enqueue_backup('v10', 'test')`;
    throw new Error("undone");
  }).catch(() => {});
  expect(lines).toEqual([]);
  await sql`select migration_guard.enqueue_backup('v10', 'test')`;
  expect(steps(lines)).toEqual(["backup null queued"]);
});

test("a job that REST queues is told, though its role has no right where the work is done", async ({ example }) => {
  await example.sql`select migration_guard.put_plan('v10', ${example.sql.json(examplePlan)}, 'test')`;
  const { sql, lines } = listen(example, "authenticator");
  await sql.begin(async (transaction) => {
    await transaction`set local role service_role`;
    await transaction`select migration_guard_api.create_backup('v10', 'default', 'request-8')`;
  });
  expect(lines).toMatchObject([{ from: null, to: "queued", request_id: "request-8", duration_ms: null }]);
});

test("a line that the client cannot read does not fail its job", async ({ example }) => {
  const { sql } = listen(example, "postgres", { client_encoding: "LATIN1" });
  await example.sql`select migration_guard.put_plan('v10', ${example.sql.json(examplePlan)}, 'test')`;
  await example.sql`select migration_guard.enqueue_backup('v10', 'Zażółć 日本')`;
  await work(sql);
  expect(await lastJob(example.sql)).toMatchObject({ status: "succeeded", error: null });
});

plainTest("Postgres's own log has each line, and no value of a row", async () => {
  let log = "";
  const server = await createOwnServer((text) => void (log += text));
  try {
    const sql = server.open();
    await sql`create table public.people as select 'SECRET-' || n as name from generate_series(1, 10) as n`;
    await backUp(sql, "v1", { tables: ["people"] });
    await sql`delete from public.people where name = 'SECRET-3'`;
    await sql`select migration_guard.enqueue_diff('v1', 'test')`;
    await work(sql);
    const lines = () =>
      log.split("\n").flatMap((line) => /LOG: {2}(\{.*"event" : "job".*\})$/.exec(line)?.[1] ?? [])
        .map((line) => JSON.parse(line) as Line);
    await expect.poll(() => steps(lines())).toEqual([
      "backup null queued",
      "backup queued running",
      "backup running succeeded",
      "diff null queued",
      "diff queued running",
      "diff running succeeded",
    ]);
    expect(log.split("\n").filter((line) => line.includes("SECRET-"))).toEqual([]);
  } finally {
    await server.remove();
  }
});
