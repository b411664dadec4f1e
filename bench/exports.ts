// `npm run bench:exports`: exports of a large backup, their verification and their import, beside pg_dump and an upload of what it writes.
import { generateIdentity, identityToRecipient } from "age-encryption";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, statSync, unlinkSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type postgres from "postgres";
import { databaseUrl } from "../local/database-url.ts";
import { connect } from "../local/database.ts";
import { deno, freePort, functionDirectory } from "../local/edge-runtime.ts";
import { secretKeys } from "../local/keys.ts";
import { type Stack, startStack } from "../local/stack.ts";
import { whyNoPgDump } from "../tests/support/pg-dump.ts";
import { type S3, startS3 } from "../tests/support/s3.ts";
import { median } from "./figures.ts";
import { markdownTable } from "./markdown-table.ts";
import { type OwnDatabase, runScript, startOwnDatabase } from "./own-database.ts";
import { type Line, printLines } from "./print-lines.ts";
import { type ProcessUsage, processUsage } from "./process-usage.ts";
import { step } from "./step.ts";
import { wholeNumber } from "./whole-number.ts";

const targets = {
  /** Megabytes of the function's process, at most: what the platform gives an isolate. */
  memory: 256,
  /** Milliseconds of CPU that a call may take: what the platform gives a request. */
  call: 2000,
};

const help =
  `Measures exports of a large backup: to an S3 server and to Storage, plain and encrypted, each with its verification and, where
the function has it, its import; by the function's process: its memory over time, and its CPU time. In turns with them
pg_dump -Fd -j1 of the backup's schema, whose files are then put into the same S3 server in parts of 8 MB. Starts a
Postgres, a stack and an S3 server of its own in temporary folders, and removes them. Linux only.

  npm run bench:exports                       with a table of 1024 MB of text, which needs 15 GB of disk
  npm run bench:exports -- --megabytes=100    with a smaller one
  npm run bench:exports -- --rounds=3         so many times; the figures are medians, of memory the most
  npm run bench:exports -- --only=offsite     one target instead of offsite,supabase
  npm run bench:exports -- --no-poll          without a client that looks at each job every second

Exits with 1 when a target is missed.`;

const version = "v1.0";
const backupSchema = "migration_backup_v1";
/** The key that the bench looks with: so its requests are told from those that the function sends itself. */
const ownKey = { name: "bench", secret: "sb_secret_of_the_bench" };

/** One run of one thing. */
type Result = {
  milliseconds: number;
  /** Milliseconds of CPU. */
  cpu: number;
  /** Megabytes at most, in each third of the time. */
  memory: number[];
  stored?: number;
  chunks?: number;
  /** Milliseconds of CPU for each call of the function by itself. */
  calls?: number[];
};
type Run = () => Promise<Record<string, Result>>;

const options = readOptions();
const folder = mkdtempSync(join(tmpdir(), "migration-guard-bench-"));
const ended = new AbortController();
const results = new Map<string, Result[]>();
/** The upload is run by what runs the function. */
const denoFlags = [
  ...["run", "--no-prompt", "--quiet", "--cached-only", "--node-modules-dir=manual"],
  ...[`--config=${join(functionDirectory, "deno.json")}`, "--allow-read", "--allow-net"],
];
/** Bytes of all rows as text. */
let textBytes = 0;
let hasImports = false;
/** Called when the function has called itself. */
let onOwnCall = () => {};
let identity = "";
let recipient = "";
let own: OwnDatabase | undefined;
let s3: S3 | undefined;
let stack: Stack | undefined;
let sql: postgres.Sql | undefined;
let cleaning: Promise<void> | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => cleanUp().then(() => process.exit(1)));
}

try {
  await start();
  await measure();
  process.exitCode = print() ? 0 : 1;
} catch (error) {
  if (!cleaning) console.error(error);
  process.exitCode = 1;
} finally {
  await cleanUp();
}

async function start() {
  step("Starting Postgres");
  const settings = {
    shared_buffers: "256MB",
    max_wal_size: "16GB",
    fsync: "off",
    synchronous_commit: "off",
    full_page_writes: "off",
    wal_level: "minimal",
    max_wal_senders: "0",
  };
  own = await startOwnDatabase({ folder, settings, onRemovable: (database) => own = database });
  step(`Making a table of ${options.megabytes} MB`);
  await runScript(own, "large-text.sql", { "bench.megabytes": options.megabytes });
  sql = connect(own);
  step("Starting REST, Storage, S3 and the Edge Function");
  s3 = await startS3();
  identity = await generateIdentity();
  recipient = await identityToRecipient(identity);
  const { endpoint, region, bucket, accessKeyId: access_key_id, secretAccessKey: secret_access_key } = s3.target;
  let text = "";
  stack = await startStack({
    port: await freePort(),
    databasePort: own.port,
    database: own.database,
    secretKeys: { ...secretKeys, [ownKey.name]: ownKey.secret },
    environment: {
      EXPORT_TARGETS: JSON.stringify({ offsite: { endpoint, region, bucket, access_key_id, secret_access_key } }),
      EXPORT_AGE_IDENTITIES: identity,
    },
    allowNet: [new URL(endpoint).host],
    onLog: (part) => {
      const lines = (text + part).split("\n");
      text = lines.pop()!;
      for (const line of lines) readLog(line);
    },
  });
  const { paths } = JSON.parse(await call("GET", "/openapi.json"));
  hasImports = "/v1/imports" in paths;
  step("Taking the backup");
  await call("PUT", `/v1/plans/${version}`, { tables: ["large"] });
  await finish(JSON.parse(await call("POST", "/v1/backups", { version })).id);
}

/** A request for a job that has another key than the bench's is the function's own. */
function readLog(line: string) {
  if (!line.startsWith("{")) {
    console.error(line);
    return;
  }
  const { level, event, method, path, actor } = JSON.parse(line);
  if (level === "error") console.error(line);
  if (event === "request" && method === "GET" && path === "/v1/jobs/{id}" && actor !== ownKey.name) onOwnCall();
}

async function measure() {
  const whyNot = whyNoPgDump(Number(process.env.POSTGRES_MAJOR ?? 17));
  if (whyNot) console.error(`${whyNot}: it is left out.`);
  const hasAge = spawnSync("age", ["--version"]).status === 0;
  const runs: Run[] = options.only.flatMap((target) => [
    () => measureExport(target, false),
    ...(whyNot || target !== "offsite" ? [] : [() => measurePeer(false)]),
    () => measureExport(target, true),
    ...(whyNot || !hasAge || target !== "offsite" ? [] : [() => measurePeer(true)]),
  ]);
  for (let round = 0; round < options.rounds; round++) {
    for (let turn = 0; turn < runs.length; turn++) {
      for (const [name, result] of Object.entries(await runs[(turn + round) % runs.length]!())) {
        console.error(`  ${name}: ${inShort(result)}`);
        results.set(name, [...results.get(name) ?? [], result]);
      }
    }
  }
}

function inShort({ calls, ...result }: Result): string {
  return JSON.stringify({ ...result, calls: calls?.join(" ") });
}

async function measureExport(target: string, isEncrypted: boolean): Promise<Record<string, Result>> {
  const name = `${target === "supabase" ? "Storage" : "S3"}${isEncrypted ? ", age" : ""}`;
  const recipients = isEncrypted ? [recipient] : [];
  const written = await measureJob(`export to ${name}`, `/v1/backups/${version}/exports`, { target, recipients });
  const { export: id } = written.job.result;
  const made = JSON.parse(await call("GET", `/v1/exports/${id}`));
  textBytes = made.text_bytes;
  written.result.chunks = made.chunks;
  written.result.stored = made.bytes;
  const read = await measureJob(`verify of ${name}`, `/v1/exports/${id}/verify`, {});
  read.result.chunks = made.chunks;
  const figures = { [`export to ${name}`]: written.result, [`verify of ${name}`]: read.result };
  if (!hasImports) return figures;
  // It comes back as what it was.
  await sql!.unsafe("drop schema migration_backup_v1 cascade");
  const imported = await measureJob(`import from ${name}`, "/v1/imports", { export: id, into: version, target });
  imported.result.chunks = made.chunks;
  return { ...figures, [`import from ${name}`]: imported.result };
}

// deno-lint-ignore no-explicit-any
type FinishedJob = any;

async function measureJob(what: string, path: string, body: unknown): Promise<{ result: Result; job: FinishedJob }> {
  step(what);
  const { pid } = stack!.edgeRuntime;
  const before = processUsage(pid);
  using memory = watch(pid);
  const calls: number[] = [];
  let last = before.cpu;
  const endCall = () => {
    const { cpu } = processUsage(pid);
    calls.push(cpu - last);
    last = cpu;
  };
  onOwnCall = endCall;
  const job = await finish(JSON.parse(await call("POST", path, body)).id);
  onOwnCall = () => {};
  endCall();
  const { cpu } = processUsage(pid);
  return {
    job,
    result: { milliseconds: job.milliseconds, cpu: cpu - before.cpu, memory: memory.thirds(), calls },
  };
}

/** Waits for a job, as a client does that looks at it now and then. */
async function finish(id: string): Promise<FinishedJob> {
  for (let looks = 1;; looks++) {
    await sleep(250);
    if (options.poll && looks % 4 === 0) await call("GET", `/v1/jobs/${id}`);
    const [job] = await sql!`
      select *, (extract(epoch from finished_at - created_at) * 1000)::float8 as milliseconds
      from migration_guard.jobs where id = ${id}`;
    if (job!.finished_at === null) continue;
    if (job!.status === "succeeded") return job;
    throw new Error(`The job has failed: ${JSON.stringify(job)}`);
  }
}

async function call(method: string, path: string, json?: unknown): Promise<string> {
  const response = await fetch(stack!.functionUrl + path, {
    method,
    body: json === undefined ? null : JSON.stringify(json),
    headers: {
      apikey: method === "GET" ? ownKey.secret : secretKeys.default,
      ...(json === undefined ? {} : { "content-type": "application/json" }),
    },
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${text}`);
  return text;
}

/** The same by hand: a folder of pg_dump's, encrypted file by file if need be, and put into the bucket. */
async function measurePeer(isEncrypted: boolean): Promise<Record<string, Result>> {
  const name = `pg_dump to S3${isEncrypted ? ", age" : ""}`;
  step(name);
  const dump = join(folder, "dump");
  const begun = performance.now();
  const url = databaseUrl({ port: own!.port, database: own!.database });
  const parts = [await runProgram("pg_dump", ["-Fd", "-j1", `--schema=${backupSchema}`, `--file=${dump}`, url])];
  if (isEncrypted) {
    for (const file of readdirSync(dump)) {
      const path = join(dump, file);
      parts.push(await runProgram("age", ["-r", recipient, "-o", `${path}.age`, path]));
      unlinkSync(path);
    }
  }
  const stored = readdirSync(dump).reduce((sum, file) => sum + statSync(join(dump, file)).size, 0);
  const prefix = `dump-${Date.now()}`;
  const upload = join(import.meta.dirname, "put-parts.ts");
  const put = await runProgram(deno, [...denoFlags, upload, dump, prefix, JSON.stringify(s3!.target)]);
  if (Number(put.stdout) !== stored) throw new Error(`${put.stdout} bytes were put of ${stored}.`);
  parts.push(put);
  rmSync(dump, { recursive: true });
  return {
    [name]: {
      milliseconds: performance.now() - begun,
      cpu: parts.reduce((sum, { cpu }) => sum + cpu, 0),
      // Of the dump, and of the upload.
      memory: [parts[0]!.peak, put.peak],
      stored,
    },
  };
}

/** Runs a program, and looks at what it uses until it ends. */
async function runProgram(command: string, args: string[]): Promise<{ cpu: number; peak: number; stdout: string }> {
  const child = spawn(command, args, {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
    signal: ended.signal,
  });
  let usage: ProcessUsage = { cpu: 0, memory: 0, peak: 0 };
  const timer = setInterval(() => {
    try {
      usage = processUsage(child.pid!);
    } catch {
      // It has ended: what was seen last stands.
    }
  }, 20);
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => output[name] += text);
  }
  const [status] = await once(child, "close");
  clearInterval(timer);
  if (status !== 0) throw new Error(`${command} failed:\n${output.stderr}`);
  return { cpu: usage.cpu, peak: usage.peak, stdout: output.stdout };
}

/** Looks at a process's memory ten times a second; `thirds` gives the most of each third of the time until now. */
function watch(pid: number): { thirds: () => number[] } & Disposable {
  const looks: number[] = [];
  const timer = setInterval(() => looks.push(processUsage(pid).memory), 100);
  return {
    thirds: () => {
      looks.push(processUsage(pid).memory);
      const third = Math.ceil(looks.length / 3);
      return [0, 1, 2].map((n) => Math.max(...looks.slice(n * third, (n + 1) * third), 0));
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

/** Gives whether every target is met. */
function print(): boolean {
  const megabytes = textBytes / 2 ** 20;
  const of = (all: Result[], figure: (result: Result) => number | undefined) =>
    all.some((result) => figure(result) === undefined) ? undefined : median(all.map((result) => figure(result)!));
  const show = (value: number | undefined, digits = 0, unit = "") =>
    value === undefined ? "" : `${value.toFixed(digits)}${unit}`;
  const rows = [...results].map(([what, all]) => {
    const calls = all.flatMap(({ calls }) => calls ?? []);
    const hasCalls = all.every(({ calls }) => calls !== undefined);
    const seconds = of(all, ({ milliseconds }) => milliseconds / 1000)!;
    const memory = all[0]!.memory.map((_, part) => Math.max(...all.map(({ memory }) => memory[part]!)));
    return [
      what,
      show(seconds, 1, " s"),
      show(megabytes / seconds, 1),
      `${memory.map((part) => part.toFixed(0)).join(", ")} MB`,
      show(of(all, ({ cpu }) => cpu / 1000), 1, " s"),
      show(of(all, ({ cpu, chunks }) => chunks && cpu / chunks), 0, " ms"),
      hasCalls ? `${show(median(calls), 0)}, ${show(Math.max(...calls), 0)} ms (of ${all[0]!.calls!.length})` : "",
      show(of(all, ({ stored }) => stored && stored / 2 ** 20), 0, " MB"),
    ];
  });
  const load = loadavg().map((each) => each.toFixed(1)).join(", ");
  console.log(
    `Postgres ${process.env.POSTGRES_MAJOR ?? "17"}, ${availableParallelism()} cores, load ${load}; ` +
      `${megabytes.toFixed(0)} MB of text, rounds: ${options.rounds}\n`,
  );
  const head = ["what", "time", "MB/s of text", "memory at most: begin, middle, end", "CPU", "per chunk"];
  console.log(markdownTable([[...head, "per call: median, most", "stored"], ...rows]));
  const ours = [...results].filter(([, all]) => all.every(({ calls }) => calls));
  const lines: Line[] = ours.flatMap(([what, all]) => {
    const peak = Math.max(...all.flatMap(({ memory }) => memory));
    const call = Math.max(...all.flatMap(({ calls }) => calls!));
    return [
      {
        what: `${what}: memory at its highest`,
        figure: `${peak.toFixed(0)} MB`,
        target: `under ${targets.memory} MB`,
        isMet: peak < targets.memory,
      },
      {
        what: `${what}: CPU of a call at most`,
        figure: `${call.toFixed(0)} ms`,
        target: `under ${targets.call} ms`,
        isMet: call < targets.call,
      },
    ];
  });
  console.log();
  printLines(lines);
  console.log(`
Time is that of a job from its request to its end, of pg_dump from its start to the end of the upload; MB/s are of the
rows' text. Memory is the resident one of the function's process, at most in each third of the time; of pg_dump, that of
pg_dump and that of the upload. CPU is of all threads of that process, the server's and the stores' left out. A
call is what the function does between two requests of itself.${hasImports ? "" : " Imports: the function has none."}`);
  return lines.every(({ isMet }) => isMet);
}

function cleanUp(): Promise<void> {
  cleaning ??= (async () => {
    ended.abort();
    await stack?.stop().catch(() => undefined);
    await s3?.stop().catch(() => undefined);
    await sql?.end({ timeout: 1 }).catch(() => undefined);
    await own?.remove();
    rmSync(folder, { recursive: true, force: true });
  })();
  return cleaning;
}

/** What the command line says. Ends the process when that is not understood, or not to be measured here. */
function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        megabytes: { type: "string", default: "1024" },
        rounds: { type: "string", default: "1" },
        only: { type: "string", default: "offsite,supabase" },
        poll: { type: "boolean", default: true },
        help: { type: "boolean", short: "h" },
      },
      allowNegative: true,
    });
    if (values.help) {
      console.log(help);
      process.exit(0);
    }
    if (process.platform !== "linux") throw new Error("This reads /proc, which only Linux has.");
    const only = values.only.split(",");
    const unknown = only.find((name) => !["offsite", "supabase"].includes(name));
    if (unknown !== undefined) throw new Error(`--only=${unknown}: it takes offsite, supabase, or both.`);
    return {
      only,
      poll: values.poll,
      megabytes: wholeNumber("megabytes", values.megabytes, { most: 100_000 }),
      rounds: wholeNumber("rounds", values.rounds, { most: 100 }),
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(1);
  }
}
