import { spawnSync } from "node:child_process";
import process from "node:process";
import { expect } from "vitest";
import { databaseUrl } from "../../local/database-url.ts";
import { superuser } from "../../local/postgres.ts";
import { backUp } from "../support/backup.ts";
import { createDatabase, test } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";
import { whyNoPgDump } from "../support/pg-dump.ts";

const run = (program: string, args: string[], input?: string): string => {
  const { status, stdout, stderr } = spawnSync(program, args, {
    input,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    env: { PATH: process.env.PATH },
  });
  if (status !== 0) throw new Error(`${program} failed:\n${stderr}`);
  return stdout;
};

test("a backup schema that was dumped and restored elsewhere verifies there, and notices damage there", async ({ example, skip }) => {
  const { sql, port, name } = example;
  const [{ server_version_num: version }] = await sql<[{ server_version_num: string }]>`show server_version_num`;
  const reason = whyNoPgDump(Math.floor(Number(version) / 10_000));
  if (reason) skip(reason);
  await backUp(sql, "v10", examplePlan);
  const dump = run("pg_dump", [
    "--schema=migration_backup_v10",
    `--dbname=${databaseUrl({ port, database: name, user: superuser })}`,
  ]);

  const elsewhere = await createDatabase("with_product");
  try {
    run("psql", [
      "--quiet",
      "--set=ON_ERROR_STOP=1",
      `--dbname=${databaseUrl({ port, database: elsewhere.name, user: superuser })}`,
    ], dump);
    const checks = () => elsewhere.sql`select check_name, status from migration_backup_v10.verify_backup_integrity()`;
    const found = await checks();
    expect(found.length).toBeGreaterThan(10);
    expect(found.filter(({ status }) => status !== "OK")).toEqual([]);
    const [before] = await sql`select migration_backup_v10.compute_manifest() as manifest`;
    expect(await elsewhere.sql`select migration_backup_v10.compute_manifest() as manifest`).toEqual([before]);

    await elsewhere.sql`update migration_backup_v10.profiles_backup set email = email || 'x' where id = (
      select id from migration_backup_v10.profiles_backup order by id limit 1)`;
    expect((await checks()).filter(({ status }) => status !== "OK").map(({ check_name }) => check_name))
      .toEqual(["table public.profiles"]);
  } finally {
    await elsewhere.drop();
  }
});
