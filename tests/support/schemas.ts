import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type postgres from "postgres";
import { superuser } from "../../local/postgres.ts";
import type { TestDatabase } from "./database.ts";

const folder = join(import.meta.dirname, "..", "sql", "schemas");

/** Files that fill the schema `app`, each with one kind of object; `from-17.sql` is for Postgres 17 and later. */
export const schemaFiles = readdirSync(folder).filter((name) => name.endsWith(".sql") && name !== "outside.sql").sort();

/** The Postgres that a file needs at least. */
export const neededMajor = (file: string) => Number(/^from-(\d+)/.exec(file)?.[1] ?? 0);

/** Makes what is there before the schema `app`: roles, and what lies in other schemas. */
export async function loadOutside(database: TestDatabase): Promise<void> {
  const admin = database.connect(superuser);
  await admin.unsafe(readFileSync(join(folder, "outside.sql"), "utf8"));
  await admin.end();
}

/** Loads files into the schema `app`. What they leave to whoever loads them is `postgres`'s, as in a project. */
export async function loadSchema(database: TestDatabase, files: string[]): Promise<void> {
  const admin: postgres.Sql = database.connect(superuser);
  for (const file of files) {
    await admin.unsafe("set session authorization app_author");
    await admin.unsafe(readFileSync(join(folder, file), "utf8"));
    await admin.unsafe("reset session authorization; reassign owned by app_author to postgres");
  }
  await admin.end();
}
