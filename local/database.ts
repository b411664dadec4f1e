import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import process from "node:process";
import postgres from "postgres";
import { databaseUrl } from "./database-url.ts";
import { superuser } from "./postgres.ts";

const root = dirname(import.meta.dirname);
const read = (...path: string[]) => readFileSync(join(root, ...path), "utf8");

/** A connection for scripts and tests: notices are dropped, the session's statement timeout is lifted. */
export function connect(options: { port: number; database?: string; user?: string; max?: number }): postgres.Sql {
  return postgres(databaseUrl(options), {
    max: options.max ?? 1,
    onnotice: () => {},
    // The driver leaves out a parameter that is 0.
    connection: { options: "-c statement_timeout=0" },
  });
}

/** Makes a new cluster look like the platform: its roles, once a cluster. */
export async function createPlatformRoles(port: number): Promise<void> {
  const admin = connect({ port, user: superuser });
  try {
    await admin.unsafe(read("local", "platform.sql"));
    await admin`alter database postgres owner to postgres`;
  } finally {
    await admin.end();
  }
}

/**
 * Makes a database look like a new project on the platform: schemas `auth`, `extensions` and `storage`, default privileges.
 */
export async function createPlatformSchemas(options: { port: number; database: string }): Promise<void> {
  const admin = connect({ ...options, user: superuser });
  try {
    await admin.unsafe(read("local", "platform-database.sql"));
    // Not loaded by those who only connect.
    const { getStorageSchemaSql } = await import("@supabase/lite");
    await admin.unsafe(`set role supabase_storage_admin; ${getStorageSchemaSql(false)}`);
  } finally {
    await admin.end();
  }
}

/** Applies the product's migrations, as `postgres`, with the Supabase CLI. */
export function pushMigrations(options: { port: number; database: string }): Promise<string> {
  return supabase(["db", "push", "--yes", "--remote", databaseUrl(options)]);
}

/** Loads the example app: its schema and rows, as `postgres`. */
export async function loadExample(options: { port: number; database: string }): Promise<void> {
  const sql = connect(options);
  try {
    await sql.unsafe(read("examples", "coordinator-to-curator", "schema.sql"));
    await sql.unsafe(read("examples", "coordinator-to-curator", "seed.sql"));
  } finally {
    await sql.end();
  }
}

/** Whether the example's migration was run, and not rolled back. */
export async function isExampleMigrated(options: { port: number; database: string }): Promise<boolean> {
  const sql = connect(options);
  try {
    const [{ isMigrated }] = await sql<[{ isMigrated: boolean }]>`
      select to_regclass('public.coordinator_notes') is null and to_regclass('public.curator_notes') is not null as "isMigrated"`;
    return isMigrated;
  } finally {
    await sql.end();
  }
}

/**
 * Runs the Supabase CLI that npm brings, in this project, and resolves with what it wrote to standard output.
 *
 * @throws When it ends with an error: with everything that it wrote.
 */
export function supabase(args: string[]): Promise<string> {
  const cli = join(dirname(createRequire(import.meta.url).resolve("supabase/package.json")), "dist", "supabase.js");
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [cli, ...args, "--workdir", root], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", NO_COLOR: "1" },
    });
    let output = "";
    let all = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text, all += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (all += text));
    child.on("error", reject);
    child.on(
      "exit",
      (code) => code === 0 ? resolve(output) : reject(new Error(`supabase ${args[0]} ${args[1]} failed:\n${all}`)),
    );
  });
}
