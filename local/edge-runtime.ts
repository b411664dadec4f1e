import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const root = dirname(import.meta.dirname);

/** The Deno binary that npm brings. */
export const deno = join(dirname(createRequire(import.meta.url).resolve("deno/package.json")), "deno");

export type EdgeRuntimeOptions = {
  /** What the platform gives a function: SUPABASE_URL, SUPABASE_DB_URL, … */
  env: Record<string, string>;
  /** `host:port` pairs that the function may connect to, or "all". */
  allowNet: string[] | "all";
  /** A module that is run before the function's own. */
  preload?: string;
  /** The module that serves; the function's own unless told otherwise. */
  module?: string;
  /** What is asked until it answers, and how many milliseconds apart. */
  probe?: { path: string; headers?: Record<string, string>; pause: number };
  onLog?: (text: string) => void;
};

export type EdgeRuntime = {
  /** Base URL of the process; the gateway keeps the function's name in the path. */
  url: string;
  /** The environment that it was given. */
  env: Record<string, string>;
  pid: number;
  stop: () => Promise<void>;
};

/** Deno's advice on a difference that makes none here, and that the platform does not know. */
const warningOfDeno = /^Deno\.serve: request\.signal aborts on successful responses .*\n?/m;

/**
 * Runs the function in a Deno process of its own, allowed to read the variables that the platform gives and the
 * modules in node_modules, and one file there, to connect to what it is told, and nothing else.
 *
 * @throws When the process ends before it listens: with its output.
 */
export async function startEdgeRuntime(options: EdgeRuntimeOptions): Promise<EdgeRuntime> {
  const { env, allowNet, preload, onLog } = options;
  const { module = join(functionDirectory, "index.ts"), probe = { path: "/migration-guard/health", pause: 30 } } =
    options;
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const child = spawn(deno, [
    "run",
    "--no-prompt",
    "--quiet",
    "--cached-only",
    "--node-modules-dir=manual",
    `--config=${join(functionDirectory, "deno.json")}`,
    allowNet === "all" ? "--allow-net" : `--allow-net=${[address, ...allowNet].join(",")}`,
    // The `postgres` driver asks for libpq's variables; none is set, but asking must not fail.
    // The parser reads its own WebAssembly, as any module of the function's packages may on the platform.
    `--allow-read=${join(root, "node_modules", "libpg-query", "wasm", "libpg-query.wasm")}`,
    // The function asks for variables of its own, which may not be set either.
    `--allow-env=${[...Object.keys(env), "MIGRATION_GUARD_*", "EXPORT_*", "ALLOWED_ORIGINS", "PG*"].join(",")}`,
    ...(preload ? [`--preload=${preload}`] : []),
    module,
  ], {
    cwd: root,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      DENO_NO_UPDATE_CHECK: "1",
      NO_COLOR: "1",
      DENO_SERVE_ADDRESS: `tcp:${address}`,
      ...env,
    },
  });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      log = (log + text).slice(-4000);
      onLog?.(text.replace(warningOfDeno, ""));
    });
  }
  const gone = once(child, "exit");
  const killAtExit = () => child.kill("SIGKILL");
  process.on("exit", killAtExit);

  const url = `http://${address}`;
  const ask = () => fetch(url + probe.path, { headers: probe.headers ?? {} }).catch(() => undefined);
  while (!(await ask())?.ok) {
    if (child.exitCode !== null || child.signalCode !== null) {
      process.off("exit", killAtExit);
      throw new Error(`The Edge Function did not start:\n${log}`);
    }
    await sleep(probe.pause);
  }
  return {
    url,
    env,
    pid: child.pid!,
    stop: async () => {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
      await gone;
      process.off("exit", killAtExit);
    },
  };
}

export const functionDirectory = join(root, "supabase", "functions", "migration-guard");

/** A port that nothing listens on at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
