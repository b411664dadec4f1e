import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type postgres from "postgres";
import { connect, createPlatformRoles, createPlatformSchemas, pushMigrations } from "../../local/database.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { type Postgres, removeData, startPostgres, superuser } from "../../local/postgres.ts";
import { prepareKeys } from "./prepare-keys.ts";

/** A Postgres of a test's own, with the product in one database, which the test may kill. */
export type OwnServer = {
  port: number;
  /** Process id of the postmaster that runs now. */
  pid: () => number;
  /** A connection to the database with the product; closed at the end, and before another start. */
  open: (user?: string) => postgres.Sql;
  /** Ends every session that was opened. */
  closeAll: () => Promise<void>;
  /** Starts a server on the same data, after the one before was killed. */
  startAgain: () => Promise<void>;
  remove: () => Promise<void>;
};

/** The database of it that has the product. */
export const ownDatabase = "killed";

export async function createOwnServer(
  onLog?: (text: string) => void,
  settings?: Record<string, string>,
): Promise<OwnServer> {
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-server-"));
  const port = await freePort();
  const dataDirectory = join(folder, "postgres");
  const start = () => startPostgres({ dataDirectory, port, major: process.env.POSTGRES_MAJOR, onLog, settings });
  let server: Postgres = await start();
  let connections: postgres.Sql[] = [];
  const close = async () => {
    await Promise.all(connections.map((sql) => sql.end({ timeout: 0 }).catch(() => {})));
    connections = [];
  };

  await createPlatformRoles(port);
  const admin = connect({ port, user: superuser });
  await admin.unsafe(`create database ${ownDatabase} owner postgres`);
  await admin.end();
  await createPlatformSchemas({ port, database: ownDatabase });
  await pushMigrations({ port, database: ownDatabase });
  await prepareKeys({ port, database: ownDatabase });

  return {
    port,
    pid: () => server.pid,
    open: (user) => {
      const sql = connect({ port, database: ownDatabase, user });
      connections.push(sql);
      return sql;
    },
    closeAll: close,
    startAgain: async () => {
      await close();
      // The killed one's backends hold its memory for a moment more.
      for (;;) {
        const started = await start().catch(() => undefined);
        if (started) {
          server = started;
          return;
        }
        await sleep(50);
      }
    },
    remove: async () => {
      await close();
      await server.stop();
      removeData(dataDirectory);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
