// `npm test`: types, lint and format, then vitest. With arguments (`npm test -- tests/sql/backup.test.ts`) vitest alone.
// `npm run test:15` and its like: the SQL tests alone, on that major of Postgres.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import { deno, functionDirectory } from "../local/edge-runtime.ts";

const root = dirname(import.meta.dirname);
const require = createRequire(import.meta.url);
const bin = (packageName: string, path: string) => join(dirname(require.resolve(`${packageName}/package.json`)), path);
const args = process.argv.slice(2);

// Deno finds the types of Node's modules by way of package.json, which the function's own configuration does not lead to.
const denoConfig = ["--node-modules-dir=manual", `--config=${join(root, "deno.json")}`];
const checks: [title: string, command: string, args: string[]][] = [
  ["deno check", deno, ["check", "--quiet", ...denoConfig, join(functionDirectory, "index.ts")]],
  ["deno lint", deno, ["lint", "--quiet"]],
  ["deno fmt --check", deno, ["fmt", "--check", "--quiet"]],
  ["tsc", process.execPath, [bin("typescript", "bin/tsc"), "--project", root]],
];
let failed = false;
for (const [title, command, commandArgs] of args.length === 0 && !process.env.POSTGRES_MAJOR ? checks : []) {
  const { status } = spawnSync(command, commandArgs, { cwd: root, stdio: "inherit" });
  console.log(`${status === 0 ? "✓" : "✗"} ${title}`);
  failed ||= status !== 0;
}
if (failed) {
  console.error("The checks above failed: the tests were not run.");
  process.exit(1);
}
const vitest = spawnSync(process.execPath, [bin("vitest", "vitest.mjs"), "run", ...args], {
  cwd: root,
  stdio: "inherit",
});
process.exit(vitest.status ?? 1);
