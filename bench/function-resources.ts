// `npm run bench:function`: the memory of the function's process through the backup of a large table, and its CPU time per request.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { connect } from "../local/database.ts";
import { freePort } from "../local/edge-runtime.ts";
import { secretKeys } from "../local/keys.ts";
import { type Stack, startStack } from "../local/stack.ts";
import { type OwnDatabase, startOwnDatabase } from "./own-database.ts";
import { type Line, printLines } from "./print-lines.ts";
import { processUsage } from "./process-usage.ts";
import { step } from "./step.ts";
import { wholeNumber } from "./whole-number.ts";

const targets = {
  /** Megabytes of the process, at most, through a job on the large table. */
  memory: 150,
  /** Milliseconds of CPU for a request at most, on average. */
  request: 100,
};
/** Rows of the large table in a megabyte: one fills a page. */
const rowsPerMegabyte = 128;
/** Seconds that a request may wait for its job, at most. */
const longestWait = 120;

const example = join(import.meta.dirname, "..", "examples", "coordinator-to-curator");

const help =
  `Measures the process of the function, in Deno: its memory through the backup of a large table, and its CPU time per
request. Starts a Postgres and a stack of its own in a temporary folder, and removes them. Linux only.

  npm run bench:function                       with a table of 1024 MB, which needs 4 GB of disk
  npm run bench:function -- --megabytes=64     with a smaller one
  npm run bench:function -- --rows=10000       the same, in rows of 8 kB
  npm run bench:function -- --requests=50      that many requests of each kind, 200 unless told otherwise

Exits with 1 when a target is missed.`;

type Call = (method: string, path: string, options?: CallOptions) => Promise<{ status: number; text: string }>;
type CallOptions = { json?: unknown; sql?: string; wait?: number; idempotencyKey?: string };

const options = readOptions();
const folder = mkdtempSync(join(tmpdir(), "migration-guard-bench-"));
const lines: Line[] = [];
/** Size of the large table, as Postgres has it. */
let tableSize = "";
let own: OwnDatabase | undefined;
let stack: Stack | undefined;
let cleaning: Promise<void> | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => cleanUp().then(() => process.exit(1)));
}

try {
  await start();
  await measure();
  printLines(lines);
  process.exitCode = lines.some(({ isMet }) => isMet === false) ? 1 : 0;
} catch (error) {
  if (!cleaning) console.error(error);
  process.exitCode = 1;
} finally {
  await cleanUp();
}

async function start() {
  step("Starting Postgres");
  const settings = {
    fsync: "off",
    synchronous_commit: "off",
    full_page_writes: "off",
    wal_level: "minimal",
    max_wal_senders: "0",
  };
  own = await startOwnDatabase({ folder, settings, onRemovable: (database) => own = database });
  step(`Making a table of ${options.rows} rows of 8 kB`);
  const sql = connect(own);
  // Neither compressed nor moved out of line: it is as large on disk as it is said to be.
  await sql.unsafe(`
    create table public.large (
      id bigint primary key,
      ${[1, 2, 3, 4, 5, 6, 7].map((column) => `text_${column} text storage plain not null`).join(", ")}
    );
    insert into public.large
    select id, ${[1, 2, 3, 4, 5, 6, 7].map((column) => `repeat(md5((id + ${column})::text), 35)`).join(", ")}
    from generate_series(1, ${options.rows}) as id;
    create table public.held (id int primary key)`);
  const [size] = await sql<{ bytes: number }[]>`select pg_table_size('public.large')::float8 as bytes`;
  tableSize = `${Math.round(size!.bytes / 2 ** 20)} MB`;
  await sql.end();
  step("Starting REST and the Edge Function");
  stack = await startStack({ port: await freePort(), databasePort: own.port, database: own.database });
}

async function measure() {
  const pid = stack!.edgeRuntime.pid;
  using memory = watchMemory(pid);
  await measureIdle(pid);
  await measureLargeBackup(pid);
  await measureRequests(pid);
  await measureLongRequests(pid);
  const peak = Math.max(processUsage(pid).peak, memory.most());
  // The target is for a backup; here the requests by the hundred are in it, too.
  lines.push({ what: "Memory at its highest, from start to end", figure: `${peak.toFixed(0)} MB` });
}

async function measureIdle(pid: number) {
  step("Looking at it while it is idle");
  // Most of it is loaded with the first request that is for more than its health.
  await expectCall("GET", "/v1/plans");
  const seconds = 5;
  const before = processUsage(pid);
  await sleep(seconds * 1000);
  const after = processUsage(pid);
  lines.push({ what: "Start, with the first answer from the database: CPU", figure: `${before.cpu} ms` });
  lines.push({ what: "Idle: memory", figure: `${after.memory.toFixed(0)} MB` });
  lines.push({ what: "Idle: CPU", figure: `${((after.cpu - before.cpu) / seconds).toFixed(1)} ms a second` });
}

/** A backup of the large table that is waited for, polled and followed in a stream at once, and what is done with a backup. */
async function measureLargeBackup(pid: number) {
  const version = "v1.0";
  await expectCall("PUT", `/v1/plans/${version}`, { json: { tables: ["large"] } });
  await measureJob(
    pid,
    `Backup of ${tableSize}`,
    version,
    () => call("POST", "/v1/backups", { json: { version }, wait: longestWait }),
  );
  for (const verb of ["verify", "diff"]) {
    await measureJob(
      pid,
      `${verb} of ${tableSize}`,
      version,
      () => call("POST", `/v1/backups/${version}/${verb}`, { wait: longestWait }),
    );
  }
}

async function measureJob(pid: number, what: string, version: string, begin: () => ReturnType<Call>) {
  step(what);
  const before = processUsage(pid);
  using memory = watchMemory(pid);
  const kept = (await jobsOf(version)).length;
  let requests = 2;
  const waiting = begin();
  let id: string | undefined;
  while (id === undefined) {
    await sleep(200);
    const jobs = await jobsOf(version);
    requests++;
    if (jobs.length > kept) id = jobs[0].id;
  }
  const following = followToEnd(id);
  let job;
  do {
    await sleep(1000);
    job = JSON.parse((await expectCall("GET", `/v1/jobs/${id}`)).text);
    requests++;
  } while (!job.finished_at);
  const streams = await following;
  requests += streams;
  await waiting;
  if (job.status !== "succeeded") throw new Error(`${what}: ${JSON.stringify(job)}`);
  const { cpu } = processUsage(pid);
  const peak = memory.most();
  lines.push({
    what: `${what}: memory at its highest`,
    figure: `${peak.toFixed(0)} MB`,
    target: `under ${targets.memory} MB`,
    isMet: peak < targets.memory,
  });
  addCpu(`${what}: CPU per request`, cpu - before.cpu, requests, `of ${requests}, ${streams} of them streams`);
}

// deno-lint-ignore no-explicit-any
async function jobsOf(version: string): Promise<any[]> {
  return JSON.parse((await expectCall("GET", `/v1/jobs?version=${version}`)).text).jobs;
}

/** Reads a job's events, coming back when told to, until its end; gives the number of streams that it took. */
async function followToEnd(id: string): Promise<number> {
  for (let streams = 1;; streams++) {
    const { text } = await expectCall("GET", `/v1/jobs/${id}/events`);
    if (/^event: end$/m.test(text)) return streams;
    if (!/^event: reconnect$/m.test(text)) throw new Error(`The stream of ${id} has ended with:\n${text}`);
  }
}

async function measureRequests(pid: number) {
  const version = "v10.0";
  const migration = readFileSync(join(example, "migrations", "v10.0_coordinator_to_curator.sql"), "utf8");
  const plan = JSON.parse(readFileSync(join(example, "plan.json"), "utf8"));
  await expectCall("PUT", `/v1/plans/${version}`, { json: plan });
  const backup = await expectCall("POST", "/v1/backups", { json: { version }, wait: 60 });
  const { id } = JSON.parse(backup.text);
  const requests: [method: string, path: string, options?: CallOptions][] = [
    ["GET", "/health"],
    ["GET", `/v1/backups/${version}`],
    ["GET", `/v1/jobs/${id}`],
    ["POST", "/v1/plans/v11.0/derive", { sql: migration }],
    ["PUT", "/v1/plans/v11.0", { json: plan }],
    ["GET", `/v1/backups/${version}/rollback-plan`],
    ["POST", `/v1/backups/${version}/verify`, { wait: 60 }],
    ["GET", "/metrics"],
  ];
  for (const [method, path, callOptions] of requests) {
    const what = `${method} ${path.replace(id, "{id}").replace(/v1\d\.0/, "{version}")}`;
    step(what);
    // The first one loads what no other has needed.
    const { cpu: start } = processUsage(pid);
    await expectCall(method, path, callOptions);
    const { cpu: before } = processUsage(pid);
    for (let done = 0; done < options.requests; done++) await expectCall(method, path, callOptions);
    const { cpu, memory } = processUsage(pid);
    addCpu(what, cpu - before, options.requests, `first ${before - start} ms; then ${memory.toFixed(0)} MB`);
    // The plan of the way back is of a migration that has been made.
    if (method === "PUT") await migrate(migration);
  }
}

async function migrate(migration: string) {
  const sql = connect(own!);
  await sql.unsafe(migration);
  await sql.end();
}

/** What looks at a job for as long as it may: an event stream, and a request that waits. */
async function measureLongRequests(pid: number) {
  await using job = await beginLongJob("v2.0");
  const measureLongRequest = async (request: () => ReturnType<Call>) => {
    const { cpu } = processUsage(pid);
    const begun = performance.now();
    const { text } = await request();
    return { text, cpu: processUsage(pid).cpu - cpu, seconds: Math.round((performance.now() - begun) / 1000) };
  };
  const follow = async () => {
    const stream = await measureLongRequest(() => expectCall("GET", `/v1/jobs/${job.id}/events`));
    if (!/^event: reconnect$/m.test(stream.text)) throw new Error(`The stream has ended with:\n${stream.text}`);
    return { ...stream, events: stream.text.match(/^event: progress$/gm)!.length };
  };
  step("An event stream to its end");
  // It also pays for the garbage of all that came before.
  const first = await follow();
  step("Another one");
  const { cpu, seconds, events } = await follow();
  addCpu(`Event stream of ${seconds} s, ${events} events`, cpu, 1, `first ${first.cpu} ms`);

  step(`A request that waits ${longestWait} s`);
  const waiting = await measureLongRequest(() =>
    expectCall("POST", "/v1/backups", {
      json: { version: job.version },
      wait: longestWait,
      idempotencyKey: job.idempotencyKey,
    })
  );
  if (JSON.parse(waiting.text).id !== job.id) throw new Error(`It has waited for another job: ${waiting.text}`);
  addCpu("POST /v1/backups that waits", waiting.cpu, 1, `${waiting.seconds} s`);
}

/** A job whose worker reports as it does in a large copy, ten times a second, until it is disposed of. */
async function beginLongJob(version: string) {
  await expectCall("PUT", `/v1/plans/${version}`, { json: { tables: ["held"] } });
  const idempotencyKey = "bench";
  const sql = connect({ ...own!, max: 1 });
  const [job] = await sql.begin(async (sql) => {
    const jobs = await sql<{ id: string }[]>`
      select id from migration_guard_api.create_backup(${version}, 'default', null, ${idempotencyKey})`;
    await sql`select migration_guard.claim_job(${jobs[0]!.id})`;
    return jobs;
  });
  const { id } = job!;
  const working = sql.unsafe(`
    do $$
    declare
      job constant migration_guard.jobs := migration_guard.get_job('${id}');
    begin
      for percent in 1..100 loop
        for tick in 1..100 loop
          perform migration_guard.report_progress(job, 'copying@' || 'public.held'::regclass::oid, percent * 1e9::bigint + tick * 1e7::bigint, 101e9::bigint);
          perform pg_sleep(0.1);
        end loop;
      end loop;
    end
    $$`).catch((error) => {
    // The cancel's.
    if (error.code !== "57014") throw error;
  });
  // Told to whoever disposes of it: at a signal nobody does.
  working.catch(() => undefined);
  return {
    id,
    version,
    idempotencyKey,
    [Symbol.asyncDispose]: async () => {
      await expectCall("DELETE", `/v1/jobs/${id}`);
      await working;
      await sql.end();
    },
  };
}

function addCpu(what: string, cpu: number, requests: number, note: string) {
  const each = cpu / requests;
  lines.push({
    what,
    figure: `${each.toFixed(1)} ms (${note})`,
    target: `under ${targets.request} ms`,
    isMet: each < targets.request,
  });
}

/** Looks at the memory ten times a second; `most` gives the most that it was until now, in megabytes. */
function watchMemory(pid: number): { most: () => number } & Disposable {
  let most = 0;
  const look = () => {
    most = Math.max(most, processUsage(pid).memory);
  };
  const timer = setInterval(look, 100);
  return {
    most: () => {
      look();
      return most;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

async function call(method: string, path: string, { json, sql, wait, idempotencyKey }: CallOptions = {}) {
  const response = await fetch(stack!.functionUrl + path, {
    method,
    body: json === undefined ? sql : JSON.stringify(json),
    headers: {
      apikey: secretKeys.default!,
      ...(json === undefined ? {} : { "content-type": "application/json" }),
      ...(sql === undefined ? {} : { "content-type": "application/sql" }),
      ...(wait === undefined ? {} : { prefer: `wait=${wait}` }),
      ...(idempotencyKey === undefined ? {} : { "idempotency-key": idempotencyKey }),
    },
  });
  return { status: response.status, text: await response.text() };
}

/** @throws When the answer is a problem. */
async function expectCall(...parameters: Parameters<Call>): ReturnType<Call> {
  const answer = await call(...parameters);
  if (answer.status >= 400) throw new Error(`${parameters[0]} ${parameters[1]}: ${answer.text}`);
  return answer;
}

function cleanUp(): Promise<void> {
  cleaning ??= (async () => {
    await stack?.stop().catch(() => undefined);
    await own?.remove();
    rmSync(folder, { recursive: true, force: true });
  })();
  return cleaning;
}

/** What the command line says. Ends the process when that is not understood, or not to be measured here. */
function readOptions(): { rows: number; requests: number } {
  try {
    const { values } = parseArgs({
      options: {
        megabytes: { type: "string" },
        rows: { type: "string" },
        requests: { type: "string", default: "200" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) {
      console.log(help);
      process.exit(0);
    }
    if (process.platform !== "linux") throw new Error("This reads /proc, which only Linux has.");
    const { megabytes, rows } = values;
    if (megabytes !== undefined && rows !== undefined) {
      throw new Error("--megabytes and --rows say the same: give one.");
    }
    return {
      rows: rows === undefined
        ? wholeNumber("megabytes", megabytes ?? "1024", { most: 1_000_000 }) * rowsPerMegabyte
        : wholeNumber("rows", rows, { most: 1_000_000 }),
      requests: wholeNumber("requests", values.requests, { most: 1_000_000 }),
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(1);
  }
}
