import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { connect, createPlatformRoles, createPlatformSchemas, loadExample, pushMigrations } from "../local/database.ts";
import { freePort } from "../local/edge-runtime.ts";
import { type Postgres, removeData, startPostgres, superuser } from "../local/postgres.ts";

export type OwnDatabase = {
  port: number;
  database: string;
  /** Stops the server and removes its data. */
  remove: () => Promise<void>;
};

/**
 * Starts a Postgres in a folder, of the major that was asked for (`POSTGRES_MAJOR`), with the platform's roles and schemas,
 * the product and the example app. The product's limits on jobs and changes are lifted.
 *
 * @param options.onRemovable Receives the database as soon as there is something to remove.
 */
export async function startOwnDatabase(options: {
  folder: string;
  settings: Record<string, string>;
  onRemovable: (database: OwnDatabase) => void;
}): Promise<OwnDatabase> {
  const dataDirectory = join(options.folder, "postgres");
  const port = await freePort();
  const database = "postgres";
  let postgres: Postgres | undefined = undefined;
  const own: OwnDatabase = {
    port,
    database,
    remove: async () => {
      await postgres?.stop().catch(() => undefined);
      removeData(dataDirectory);
    },
  };
  options.onRemovable(own);
  const major = process.env.POSTGRES_MAJOR;
  postgres = await startPostgres({ dataDirectory, port, major, settings: options.settings });
  await createPlatformRoles(port);
  await createPlatformSchemas({ port, database });
  await pushMigrations({ port, database });
  await loadExample({ port, database });
  const sql = connect({ port, database });
  await sql`update migration_guard.limits set max_jobs = 1000, changes_per_minute = 100000`;
  await sql.end();
  return own;
}

/** Fills the example's tables with so many rows, all four of its plan together. */
export async function fillTables({ port, database }: OwnDatabase, rows: number): Promise<void> {
  await runScript({ port, database }, "rows.sql", { "bench.rows": rows });
}

/** Runs a file of this folder as a superuser, statement by statement, with settings that it reads. */
export async function runScript(
  options: { port: number; database: string },
  file: string,
  settings: Record<string, number>,
): Promise<void> {
  const admin = connect({ ...options, user: superuser });
  try {
    for (const [name, value] of Object.entries(settings)) {
      await admin`select set_config(${name}, ${String(value)}, false)`;
    }
    // One by one, since a vacuum stands alone.
    const statements = readFileSync(join(import.meta.dirname, file), "utf8").split(/;\n/);
    for (const statement of statements) if (statement.trim() !== "") await admin.unsafe(statement);
  } finally {
    await admin.end();
  }
}
