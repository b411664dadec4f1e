import { spawnSync } from "node:child_process";
import process from "node:process";
import { databaseUrl } from "../../local/database-url.ts";
import { superuser } from "../../local/postgres.ts";

/** Why pg_dump cannot read a server of a major version, or nothing when it can. */
export function whyNoPgDump(serverMajor: number): string | undefined {
  const { error, stdout } = spawnSync("pg_dump", ["--version"], { encoding: "utf8" });
  if (error) return "pg_dump is not installed (Debian: postgresql-client)";
  const major = Number(/(\d+)/.exec(stdout)?.[1]);
  return major < serverMajor ? `pg_dump ${major} does not read Postgres ${serverMajor}` : undefined;
}

/**
 * What `pg_dump --schema-only` writes of a database, without the schemas that are named, which take wildcards.
 *
 * @throws When pg_dump does: with what it wrote to standard error.
 */
export function pgDump(options: { port: number; database: string; exceptSchemas: string[] }): string {
  const { status, stdout, stderr } = spawnSync(
    "pg_dump",
    [
      "--schema-only",
      ...options.exceptSchemas.map((name) => `--exclude-schema=${name}`),
      `--dbname=${databaseUrl({ ...options, user: superuser })}`,
    ],
    { encoding: "utf8", maxBuffer: 2 ** 28, env: { PATH: process.env.PATH } },
  );
  if (status !== 0) throw new Error(`pg_dump failed:\n${stderr}`);
  // A dump is locked against meta-commands with a key that is another one each time.
  return stdout.replaceAll(/^\\(un)?restrict .*\n/gm, "");
}
