// `npm run bench:function-speed`: how fast the function starts and answers beside a bare one, what is uploaded of it, and whether its memory stays flat.
import autocannon from "autocannon";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { databaseUrl } from "../local/database-url.ts";
import { createPlatformRoles, createPlatformSchemas, loadExample, pushMigrations } from "../local/database.ts";
import { type EdgeRuntime, freePort, startEdgeRuntime } from "../local/edge-runtime.ts";
import { secretKeys } from "../local/keys.ts";
import { type Postgres, removeData, startPostgres } from "../local/postgres.ts";
import { type Stack, startStack } from "../local/stack.ts";
import { bundleSize, uploadSize } from "./bundle-size.ts";
import { median } from "./figures.ts";
import { judgeAtLeast, judgeAtMost, type Judged } from "./judged.ts";
import { linear } from "./linear.ts";
import { type Line, printLines } from "./print-lines.ts";
import { processUsage } from "./process-usage.ts";
import { step } from "./step.ts";
import { wholeNumber } from "./whole-number.ts";

const targets = {
  /** Times that a start of the peer takes, at most. */
  start: 2,
  /** Megabytes of all modules that it reaches, at most. */
  bundle: 3,
  /** Share of the peer's requests per second, at least. */
  requests: 0.7,
  /** Percent that memory may rise by, over the time that is looked at. */
  rise: 10,
};
/** Seconds for which each is asked before it is measured: V8 compiles what runs often. */
const warmUp = 3;
/** Seconds after which a request is given up; the function itself gives an answer after 26. */
const longestAnswer = 30;
const database = "postgres";
const version = "v10.0";
const path = `/migration-guard/v1/backups/${version}`;
const headers = { apikey: secretKeys.default! };
const peers = join(import.meta.dirname, "peers");
const oneRoute = join(peers, "one-route.ts");
const oneCall = join(peers, "one-call.ts");

const help =
  `Measures how fast the function starts and answers, in Deno, beside a bare function in the same Deno, in turns; what is
uploaded of it; and its memory under that load. Starts a Postgres and a stack of its own in a temporary folder, and removes
them. Linux only.

  npm run bench:function-speed                      everything: 20 minutes of load at the end
  npm run bench:function-speed -- --minutes=0       without these
  npm run bench:function-speed -- --starts=11       starts of each function
  npm run bench:function-speed -- --rounds=9        rounds of load of each function, of --seconds=5
  npm run bench:function-speed -- --connections=8   requests at a time
  npm run bench:function-speed -- --json=FILE       writes the figures there, too

Exits with 1 when a target is missed.`;

const options = readOptions();
const folder = mkdtempSync(join(tmpdir(), "migration-guard-bench-"));
const lines: Line[] = [];
const judged: Judged[] = [];
let postgres: Postgres | undefined;
let stack: Stack | undefined;
let peer: EdgeRuntime | undefined;
let cleaning: Promise<void> | undefined;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => cleanUp().then(() => process.exit(1)));
}

try {
  measureBundle();
  await start();
  await measureStarts("first answer of GET /health", oneRoute, { path: "/migration-guard/health", pause: 2 }, true);
  await measureStarts("first answer of GET /v1/backups/{version}", oneCall, { path, headers, pause: 2 }, false);
  await measureRequests();
  if (options.minutes > 0) await measureMemory();
  printLines(lines);
  if (options.json) writeFileSync(options.json, `${JSON.stringify({ lines, judged }, null, 2)}\n`);
  process.exitCode = lines.some(({ isMet }) => isMet === false) ? 1 : 0;
} catch (error) {
  if (!cleaning) console.error(error);
  process.exitCode = 1;
} finally {
  await cleanUp();
}

function measureBundle() {
  const bundle = bundleSize();
  lines.push({
    what: "Bundle",
    figure: `${bundle.toFixed(3)} MB`,
    target: `under ${targets.bundle} MB`,
    isMet: bundle < targets.bundle,
  });
  judged.push(judgeAtMost(`bundle in MB < ${targets.bundle}`, targets.bundle, bundle));
  const { whole, compressed, largest } = uploadSize();
  const most = largest.map(({ name, compressed }) => `${name} ${compressed.toFixed(2)}`).join(", ");
  lines.push({
    what: "Upload",
    figure: `${compressed.toFixed(2)} MB (of ${whole.toFixed(1)} MB; ${most})`,
  });
}

async function start() {
  step("Starting Postgres");
  const port = await freePort();
  postgres = await startPostgres({ dataDirectory: join(folder, "postgres"), port });
  await createPlatformRoles(port);
  await createPlatformSchemas({ port, database });
  await pushMigrations({ port, database });
  await loadExample({ port, database });
  step("Starting REST and the Edge Function");
  stack = await startStack({ port: await freePort(), databasePort: port, database });
  await expectCall("PUT", `/v1/plans/${version}`, { tables: ["profiles"] });
  await expectCall("POST", "/v1/backups", { version }, { prefer: "wait=60" });
}

/** Environment and rights are those of the function: a bare one is to have no less to read. */
function runtimeOptions() {
  return {
    env: stack!.edgeRuntime.env,
    allowNet: [new URL(stack!.url).host, new URL(databaseUrl({ port: postgres!.port, database })).host],
  };
}

async function measureStarts(
  what: string,
  module: string,
  probe: { path: string; headers?: Record<string, string>; pause: number },
  isTarget: boolean,
) {
  step(`Starting it: ${what}`);
  const measure = async (module?: string) => {
    const begun = performance.now();
    const runtime = await startEdgeRuntime({ ...runtimeOptions(), module, probe });
    const wall = performance.now() - begun;
    const { cpu } = processUsage(runtime.pid);
    await runtime.stop();
    return { wall, cpu };
  };
  // The first start of each fills Deno's caches.
  await measure();
  await measure(module);
  const own: { wall: number; cpu: number }[] = [];
  const bare: typeof own = [];
  for (let round = 0; round < options.starts; round++) {
    bare.push(await measure(module));
    own.push(await measure());
  }
  const walls = (starts: typeof own) => starts.map(({ wall }) => wall);
  const cpus = (starts: typeof own) => median(starts.map(({ cpu }) => cpu));
  const ratios = ratiosOf(walls(own), walls(bare));
  const ratio = median(ratios);
  lines.push({
    what: `Start, ${what}`,
    figure: `${ratio.toFixed(2)} x (${spread(walls(own))} ms to ${spread(walls(bare))} ms; CPU ${cpus(own)} to ${
      cpus(bare)
    } ms)`,
    ...(isTarget ? { target: `at most ${targets.start} x`, isMet: ratio <= targets.start } : {}),
  });
  if (isTarget) judged.push(judgeAtMost(`cold start / of one route ≤ ${targets.start}`, targets.start, ratio, ratios));
}

async function measureRequests() {
  peer = await startEdgeRuntime({ ...runtimeOptions(), module: oneCall, probe: { path, headers, pause: 30 } });
  const own: number[] = [];
  const bare: number[] = [];
  const cpuOf = { own: 0, bare: 0 };
  for (const { url } of [stack!.edgeRuntime, peer]) await load(url, warmUp);
  for (let round = 1; round <= options.rounds; round++) {
    step(`Round ${round} of ${options.rounds}`);
    for (const [name, rates, { url, pid }] of [["bare", bare, peer], ["own", own, stack!.edgeRuntime]] as const) {
      const { cpu } = processUsage(pid);
      const { rate, requests, failed } = await load(url, options.seconds);
      if (failed > 0) throw new Error(`${failed} requests have failed.`);
      cpuOf[name] += (processUsage(pid).cpu - cpu) / requests / options.rounds;
      rates.push(rate);
    }
  }
  await peer.stop();
  peer = undefined;
  const ratios = ratiosOf(own, bare);
  const ratio = median(ratios);
  judged.push(
    judgeAtLeast(`requests per second / of a bare route ≥ ${targets.requests}`, targets.requests, ratio, ratios),
  );
  lines.push({
    what: "GET /v1/backups/{version}: requests per second",
    figure: `${ratio.toFixed(2)} x (${spread(own)} to ${spread(bare)}; CPU per request ${cpuOf.own.toFixed(1)} to ${
      cpuOf.bare.toFixed(1)
    } ms)`,
    target: `at least ${targets.requests} x`,
    isMet: ratio >= targets.requests,
  });
}

async function load(url: string, duration: number) {
  const { connections } = options;
  const result = await autocannon({ url: url + path, headers, connections, duration, timeout: longestAnswer });
  const requests = result["2xx"];
  // autocannon counts what was given up among the errors.
  return { requests, rate: requests / result.duration, failed: result.errors + result.non2xx };
}

/**
 * The memory of each minute is the least that there was in it, since V8 lets garbage lie. The first quarter is left out; by the
 * straight line that fits the rest best, it may rise by no more than a tenth.
 */
async function measureMemory() {
  const { url, pid } = stack!.edgeRuntime;
  const memory = [processUsage(pid).memory];
  let least = Infinity;
  let requests = 0;
  let failed = 0;
  const timer = setInterval(() => least = Math.min(least, processUsage(pid).memory), 1000);
  for (let minute = 1; minute <= options.minutes; minute++) {
    least = Infinity;
    const result = await load(url, 60);
    requests += result.requests + result.failed;
    failed += result.failed;
    memory.push(least);
    step(
      `Minute ${minute} of ${options.minutes}: ${
        least.toFixed(0)
      } MB, ${result.requests} requests, ${result.failed} failed`,
    );
  }
  clearInterval(timer);
  lines.push({
    what: `${options.minutes} minutes of it: errors`,
    figure: `${failed} of ${requests} requests`,
    target: "none",
    isMet: failed === 0,
  });
  const settled = memory.slice(1 + Math.floor(options.minutes / 4));
  const { slope, mean } = linear(settled);
  const rise = 100 * slope * (settled.length - 1) / mean;
  lines.push({
    what: `${options.minutes} minutes of it: memory`,
    figure: `${rise >= 0 ? "+" : ""}${rise.toFixed(1)} % (${slope.toFixed(2)} MB a minute; ${
      memory.map((megabytes) => megabytes.toFixed(0)).join(" ")
    } MB)`,
    target: `at most +${targets.rise} %`,
    isMet: rise <= targets.rise,
  });
}

/** @throws When the answer is a problem. */
async function expectCall(method: string, path: string, json: unknown, more: Record<string, string> = {}) {
  const response = await fetch(stack!.functionUrl + path, {
    method,
    body: JSON.stringify(json),
    headers: { ...headers, ...more, "content-type": "application/json" },
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${await response.text()}`);
}

/** Each figure is held against the one beside it: what else the machine does is much the same for both. */
function ratiosOf(own: number[], bare: number[]): number[] {
  return own.map((figure, round) => figure / bare[round]!);
}

/** Median, least and most. */
function spread(figures: number[]): string {
  return `${median(figures).toFixed(0)} [${Math.min(...figures).toFixed(0)}..${Math.max(...figures).toFixed(0)}]`;
}

function cleanUp(): Promise<void> {
  cleaning ??= (async () => {
    await peer?.stop().catch(() => undefined);
    await stack?.stop().catch(() => undefined);
    await postgres?.stop().catch(() => undefined);
    removeData(join(folder, "postgres"));
    rmSync(folder, { recursive: true, force: true });
  })();
  return cleaning;
}

/** What the command line says. Ends the process when that is not understood, or not to be measured here. */
function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        minutes: { type: "string", default: "20" },
        starts: { type: "string", default: "11" },
        rounds: { type: "string", default: "9" },
        seconds: { type: "string", default: "5" },
        connections: { type: "string", default: "8" },
        json: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) {
      console.log(help);
      process.exit(0);
    }
    if (process.platform !== "linux") throw new Error("This reads /proc, which only Linux has.");
    return {
      minutes: wholeNumber("minutes", values.minutes, { least: 0, most: 1440 }),
      starts: wholeNumber("starts", values.starts, { most: 1440 }),
      rounds: wholeNumber("rounds", values.rounds, { most: 1440 }),
      seconds: wholeNumber("seconds", values.seconds, { most: 1440 }),
      connections: wholeNumber("connections", values.connections, { most: 1440 }),
      json: values.json,
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${help}`);
    process.exit(1);
  }
}
