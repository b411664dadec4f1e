import { superuser } from "../../local/postgres.ts";
import { createDatabase, type TestDatabase } from "./database.ts";
import type { Connections } from "./schema-state.ts";

/**
 * How many apps one database has, one after the other. What they leave in the catalog and in what a session remembers of them
 * makes each slower than the one before, and a new database takes half a second.
 */
const appsPerDatabase = 10;

/** Connections to a database with the product for one `freshApp` after the other. */
export type Apps = {
  /** The same connections as before, or those to a new database; the old one is dropped. */
  next: () => Promise<Connections>;
  drop: () => Promise<void>;
};

export function createApps(): Apps {
  let database: TestDatabase | undefined;
  let connections: Connections;
  let apps = 0;
  const drop = async () => {
    await database?.drop();
    database = undefined;
  };
  return {
    next: async () => {
      if (apps++ % appsPerDatabase === 0) {
        await drop();
        database = await createDatabase("with_product");
        connections = { sql: database.connect(), admin: database.connect(superuser) };
      }
      return connections;
    },
    drop,
  };
}
