import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { TestProject } from "vitest/node";
import {
  connect,
  createPlatformRoles,
  createPlatformSchemas,
  loadExample,
  pushMigrations,
} from "../../local/database.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { removeData, startPostgres, superuser } from "../../local/postgres.ts";
import { prepareKeys } from "./prepare-keys.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Port of the Postgres that all tests share. */
    port: number;
  }
}

/**
 * One Postgres for the whole run, with two templates that each test's own database is copied from in milliseconds:
 * `with_product` has the platform's schemas and the product's migrations, `with_example` the example app besides.
 */
export default async function setup(project: TestProject) {
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-tests-"));
  const port = await freePort();
  const postgres = await startPostgres({
    dataDirectory: join(folder, "postgres"),
    port,
    major: process.env.POSTGRES_MAJOR,
    settings: { fsync: "off", synchronous_commit: "off", full_page_writes: "off", max_prepared_transactions: "10" },
  });
  await createPlatformRoles(port);

  const admin = connect({ port, user: superuser });
  await admin`create database with_product owner postgres`;
  await createPlatformSchemas({ port, database: "with_product" });
  await pushMigrations({ port, database: "with_product" });
  await prepareKeys({ port, database: "with_product" });
  await admin`create database with_example owner postgres template with_product`;
  await loadExample({ port, database: "with_example" });
  await admin.end();

  project.provide("port", port);
  return async () => {
    await postgres.stop();
    removeData(join(folder, "postgres"));
    rmSync(folder, { recursive: true, force: true });
  };
}
