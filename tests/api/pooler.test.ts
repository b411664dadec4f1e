import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { expect } from "vitest";
import { freePort } from "../../local/edge-runtime.ts";
import { isTaken, password } from "../../local/postgres.ts";
import { startStack } from "../../local/stack.ts";
import { caller } from "../support/api.ts";
import { test } from "../support/database.ts";

test("jobs run through a transaction pooler, even one that gives every statement another session", async ({ example, skip, onTestFinished }) => {
  const pgbouncer = ["/usr/sbin/pgbouncer", "pgbouncer"].find((path) => spawnSync(path, ["--version"]).status === 0);
  if (!pgbouncer) return skip("pgbouncer is not installed: apt-get install pgbouncer");
  const folder = mkdtempSync(join(tmpdir(), "pgbouncer-"));
  const port = await freePort();
  writeFileSync(join(folder, "users"), `"postgres" "${password}"\n`);
  writeFileSync(
    join(folder, "config"),
    `[databases]
${example.name} = host=127.0.0.1 port=${example.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = plain
auth_file = ${join(folder, "users")}
pool_mode = transaction
default_pool_size = 4
min_pool_size = 4
server_round_robin = 1
`,
  );
  chmodSync(folder, 0o755);
  const user = process.getuid?.() === 0 ? ["-u", "postgres"] : [];
  const bouncer = spawn(pgbouncer, [...user, join(folder, "config")], { stdio: "ignore" });
  const stack = await startStack({
    port: await freePort(),
    databasePort: example.port,
    database: example.name,
    functionDatabaseUrl: `postgresql://postgres:${password}@127.0.0.1:${port}/${example.name}`,
  });
  onTestFinished(async () => {
    await stack.stop();
    bouncer.kill("SIGKILL");
    if (bouncer.exitCode === null && bouncer.signalCode === null) await once(bouncer, "exit");
    rmSync(folder, { recursive: true, force: true });
  });
  await expect.poll(() => isTaken(port)).toBe(true);

  const call = caller(stack.functionUrl);
  expect((await call("GET", "/ready")).json).toMatchObject({ worker: "function" });
  for (const version of ["v1", "v2", "v3"]) {
    await call("PUT", `/v1/plans/${version}`, { json: { tables: ["profiles"] } });
    expect((await call("POST", "/v1/backups", { json: { version }, wait: 60 })).json).toMatchObject({
      status: "succeeded",
    });
    expect((await call("POST", `/v1/backups/${version}/verify`, { wait: 60 })).json).toMatchObject({
      result: { ok: true },
    });
  }
  // Neither a lock nor a temporary view stays in a session that others will be given.
  const locks = () =>
    example.sql`select from pg_locks where locktype = 'advisory'
      and database = (select oid from pg_database where datname = current_database())`;
  await expect.poll(locks, { timeout: 30_000 }).toHaveLength(0);
  const views = () => example.sql`select from pg_class where relname = 'migration_guard_tables'`;
  await expect.poll(views, { timeout: 30_000 }).toHaveLength(0);
});
