import { randomUUID } from "node:crypto";
import type postgres from "postgres";
import { inject, test as base } from "vitest";
import { connect } from "../../local/database.ts";
import { superuser } from "../../local/postgres.ts";

/** What a test's database is a copy of. */
export type Template = "with_product" | "with_example";

/** A database of a test's own. */
export type TestDatabase = {
  name: string;
  port: number;
  /** Connection as `postgres`, the product's owner, which is no superuser. */
  sql: postgres.Sql;
  /** Another connection, as any role that may log in; closed at the end. */
  connect: (user?: string, max?: number) => postgres.Sql;
  drop: () => Promise<void>;
};

/** @param port Of another Postgres than the one that all tests share; then the template is a database of that. */
export async function createDatabase(template: string, port = inject("port")): Promise<TestDatabase> {
  const name = `test_${randomUUID().replaceAll("-", "")}`;
  const admin = connect({ port, user: superuser });
  const connections: postgres.Sql[] = [];
  const open = (user = "postgres", max = 1) => {
    const sql = connect({ port, database: name, user, max });
    connections.push(sql);
    return sql;
  };
  await admin.unsafe(`create database ${name} owner postgres template ${template}`);
  return {
    name,
    port,
    sql: open(),
    connect: open,
    drop: async () => {
      await Promise.all(connections.map((sql) => sql.end({ timeout: 1 })));
      await admin.unsafe(`drop database if exists ${name} with (force)`);
      await admin.end();
    },
  };
}

/** `test` with a database of its own: `database` has the product, `example` the example app besides. */
export const test = base.extend<{ database: TestDatabase; example: TestDatabase }>({
  database: async ({}, use) => {
    const database = await createDatabase("with_product");
    await use(database);
    await database.drop();
  },
  example: async ({}, use) => {
    const database = await createDatabase("with_example");
    await use(database);
    await database.drop();
  },
});
