import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createPlatformRoles, createPlatformSchemas, loadExample, pushMigrations } from "../../local/database.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { removeData, startPostgres } from "../../local/postgres.ts";
import { startStack } from "../../local/stack.ts";
import { caller } from "../support/api.ts";

const database = "postgres";

test("while the database is away the answer is 503, and all is well when it is back", async ({ onTestFinished }) => {
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-outage-"));
  const [port, databasePort] = [await freePort(), await freePort()];
  const start = () =>
    startPostgres({ dataDirectory: join(folder, "postgres"), port: databasePort, settings: { fsync: "off" } });
  let postgres = await start();
  await createPlatformRoles(databasePort);
  await createPlatformSchemas({ port: databasePort, database });
  await pushMigrations({ port: databasePort, database });
  await loadExample({ port: databasePort, database });
  const stack = await startStack({ port, databasePort, database });
  onTestFinished(async () => {
    await stack.stop();
    await postgres.stop();
    removeData(join(folder, "postgres"));
    rmSync(folder, { recursive: true, force: true });
  });
  const call = caller(stack.functionUrl);
  const backUp = (version: string) => call("POST", "/v1/backups", { json: { version }, wait: 60 });
  const expectUnavailable = async () => {
    for (const path of ["/v1/backups", "/ready", "/v1/backups/v1/checklist"]) {
      const answer = await call("GET", path);
      expect(answer.json, path).toMatchObject({ status: 503, code: "database_unavailable" });
    }
    expect((await backUp("v2")).json).toMatchObject({ status: 503, code: "database_unavailable" });
    expect((await call("GET", "/health")).status).toBe(200);
  };

  // Also when it goes before anything was ever asked of it.
  await postgres.stop();
  await expectUnavailable();
  postgres = await start();
  await expect.poll(async () => (await call("GET", "/ready")).status, { timeout: 60_000 }).toBe(200);

  for (const version of ["v1", "v2", "v3"]) {
    expect((await call("PUT", `/v1/plans/${version}`, { json: { tables: ["profiles"] } })).status).toBe(201);
  }
  expect((await backUp("v1")).json).toMatchObject({ status: "succeeded" });

  await postgres.stop();
  await expectUnavailable();
  postgres = await start();
  await expect.poll(async () => (await call("GET", "/ready")).json.worker, { timeout: 60_000 }).toBe("function");
  expect((await backUp("v2")).json).toMatchObject({ status: "succeeded" });

  // A server that takes connections and says nothing.
  const servers = spawnSync("pgrep", ["-P", String(postgres.pid)], { encoding: "utf8" }).stdout.split("\n").filter(
    Boolean,
  );
  const everyServer = [String(postgres.pid), ...servers];
  spawnSync("kill", ["-STOP", ...everyServer]);
  try {
    expect((await call("GET", "/v1/backups")).json).toMatchObject({ status: 503, code: "database_unavailable" });
  } finally {
    spawnSync("kill", ["-CONT", ...everyServer]);
  }
  await expect.poll(async () => (await call("GET", "/ready")).status, { timeout: 60_000 }).toBe(200);
  await expect.poll(async () => (await call("GET", "/ready")).json.worker, { timeout: 60_000 }).toBe("function");
  expect((await backUp("v3")).json).toMatchObject({ status: "succeeded" });
});
