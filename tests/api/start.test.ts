import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { connect } from "../../local/database.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { isTaken, removeData } from "../../local/postgres.ts";
import { exampleFile } from "../support/example.ts";

const hint = "\nThe example's migration was run in this database already: `npm start -- --reset` begins afresh.\n";
const root = join(import.meta.dirname, "..", "..");
const run = promisify(execFile);

/** `npm start` on ports and with data of a test's own, in a process group as a terminal makes one. */
async function start(env: Record<string, string>, ...args: string[]) {
  const child = spawn("npm", ["start", "--silent", "--", ...args], {
    cwd: root,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => output += text);
  }
  const ended = once(child, "close");
  await Promise.race([ended, expect.poll(() => output, { timeout: 120_000 }).toContain("Ctrl-C stops everything")]);
  return {
    output: () => output,
    /** What Ctrl-C in a terminal does: the signal goes to everything in the group. */
    interrupt: async () => {
      process.kill(-child.pid!, "SIGINT");
      await ended;
    },
  };
}

async function processesOn(folder: string, ports: number[]): Promise<string[]> {
  const { stdout } = await run("ps", ["-eo", "args="]);
  return stdout.split("\n").filter((line) =>
    line.includes(folder) || ports.some((port) => line.includes(`127.0.0.1:${port}`))
  );
}

test("npm start prints lines that back up and verify the example, keeps the data, and leaves nothing running", async ({ onTestFinished }) => {
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-start-"));
  const ports = [await freePort(), await freePort()];
  const env = { API_PORT: String(ports[0]), DB_PORT: String(ports[1]), DATA_DIRECTORY: folder };
  onTestFinished(() => {
    removeData(join(folder, "postgres"));
    rmSync(folder, { recursive: true, force: true });
  });

  const first = await start(env);
  const lines = first.output().split("\n").filter((line) => line.startsWith("curl "));
  expect(lines).toHaveLength(5);
  const answers: { stdout: string }[] = [];
  for (const line of lines) answers.push(await run("bash", ["-c", line]));
  const [ready, plan, backup, verified, checklist] = answers.map(({ stdout }) => JSON.parse(stdout));
  expect(ready).toMatchObject({ status: "ready", worker: "function" });
  expect(plan).toMatchObject({ version: "v10.0" });
  expect(backup).toMatchObject({ status: "succeeded" });
  expect(verified).toMatchObject({ status: "succeeded", result: { ok: true } });
  expect(checklist).toMatchObject({ ready: true });

  const second = await start(env);
  expect(second.output()).toContain(`Port ${ports[0]} is taken`);
  expect(second.output()).toContain("API_PORT=");

  const third = await start({ ...env, API_PORT: String(await freePort()), DB_PORT: String(await freePort()) });
  expect(third.output()).toContain("A stack with this data is running already");
  expect((await run("bash", ["-c", lines[0]!])).stdout).toContain('"worker": "function"');
  expect((await start(env, "--nonsense")).output()).toMatch(/--nonsense[^]*npm start -- --reset/);

  expect(first.output()).not.toContain(hint);
  const sql = connect({ port: ports[1]!, database: "postgres" });
  await sql.unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql")).simple();
  await sql.end();

  await first.interrupt();
  expect(await processesOn(folder, ports)).toEqual([]);
  expect(await Promise.all(ports.map(isTaken))).toEqual([false, false]);

  const again = await start(env);
  expect(again.output()).toContain(hint);
  const [, , backupAgain] = await Promise.all(lines.slice(0, 3).map((line) => run("bash", ["-c", line])));
  expect(JSON.parse(backupAgain!.stdout)).toMatchObject({ code: "backup_exists" });
  await again.interrupt();

  const fresh = await start(env, "--reset");
  expect(fresh.output()).not.toContain(hint);
  await run("bash", ["-c", lines[1]!]);
  expect(JSON.parse((await run("bash", ["-c", lines[2]!])).stdout)).toMatchObject({ status: "succeeded" });
  await fresh.interrupt();
  expect(await processesOn(folder, ports)).toEqual([]);
});

test("npm start names a database port that is taken, and the variable that changes it", async ({ onTestFinished }) => {
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-start-"));
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  onTestFinished(() => {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const { output } = await start({ API_PORT: String(await freePort()), DB_PORT: String(port), DATA_DIRECTORY: folder });
  expect(output()).toContain(`Port ${port} is taken`);
  expect(output()).toContain("DB_PORT=");
});
