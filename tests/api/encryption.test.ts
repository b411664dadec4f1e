import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  mkdtempSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  connect,
  createPlatformRoles,
  createPlatformSchemas,
  loadExample,
  pushMigrations,
} from "../../local/database.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { removeData, startPostgres, superuser } from "../../local/postgres.ts";
import { startStack } from "../../local/stack.ts";
import { caller } from "../support/api.ts";

const database = "postgres";

test("jobs run where the server lets nobody in without encryption", async ({ onTestFinished, skip }) => {
  if (spawnSync("openssl", ["version"]).status !== 0) return skip("openssl is not installed: apt-get install openssl");
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-encryption-"));
  const [port, databasePort] = [await freePort(), await freePort()];
  const postgres = await startPostgres({
    dataDirectory: join(folder, "postgres"),
    port: databasePort,
    settings: { fsync: "off" },
  });
  await createPlatformRoles(databasePort);
  await createPlatformSchemas({ port: databasePort, database });
  await pushMigrations({ port: databasePort, database });
  await loadExample({ port: databasePort, database });

  const certificate = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
  const files = ["-keyout", join(folder, "server.key"), "-out", join(folder, "server.crt")];
  expect(spawnSync("openssl", [...certificate, ...files]).status).toBe(0);
  const admin = connect({ port: databasePort, user: superuser });
  const [{ place, rules }] = await admin<[{ place: string; rules: string }]>`
    select current_setting('data_directory') as place, current_setting('hba_file') as rules`;
  // The key must be the server's own.
  const { uid, gid } = statSync(place);
  for (const name of ["server.key", "server.crt"]) {
    copyFileSync(join(folder, name), join(place, name));
    chmodSync(join(place, name), 0o600);
    chownSync(join(place, name), uid, gid);
  }
  await admin`alter system set ssl = on`.simple();
  writeFileSync(rules, "hostssl all postgres 127.0.0.1/32 scram-sha-256\nhostnossl all postgres 127.0.0.1/32 reject\n");
  appendFileSync(rules, "host all all 127.0.0.1/32 scram-sha-256\n");
  await admin`select pg_reload_conf()`;
  await admin.end();

  const stack = await startStack({ port, databasePort, database });
  onTestFinished(async () => {
    await stack.stop();
    await postgres.stop();
    removeData(join(folder, "postgres"));
    rmSync(folder, { recursive: true, force: true });
  });
  const call = caller(stack.functionUrl);
  expect((await call("GET", "/ready")).json).toMatchObject({ worker: "function" });
  await call("PUT", "/v1/plans/v1", { json: { tables: ["profiles"] } });
  expect((await call("POST", "/v1/backups", { json: { version: "v1" }, wait: 60 })).json).toMatchObject({
    status: "succeeded",
  });
});
