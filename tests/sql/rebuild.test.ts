import type postgres from "postgres";
import { afterAll, describe, expect, inject, test, type TestContext } from "vitest";
import { connect } from "../../local/database.ts";
import { superuser } from "../../local/postgres.ts";
import { backUp, verify } from "../support/backup.ts";
import { catalogRows } from "../support/catalog-rows.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { difference } from "../support/difference.ts";
import { pgDump, whyNoPgDump } from "../support/pg-dump.ts";
import { loadOutside, loadSchema, neededMajor, schemaFiles } from "../support/schemas.ts";

/** A database with the schema `app` and its backup, and another in which it was made again from that backup alone. */
type Pair = { source: TestDatabase; target: TestDatabase };

async function rebuild(files: string[]): Promise<Pair> {
  const source = await createDatabase("with_product");
  await loadOutside(source);
  await loadSchema(source, files);
  await backUp(source.sql, "v1", { schema: "app", tables: await readableTables(source.sql) });
  const script = await source.sql<{ step: number; identity: string; statement: string }[]>`
    select step, identity, statement from migration_backup_v1.rebuild_script() order by step`;

  const target = await createDatabase("with_product");
  await loadOutside(target);
  const admin = target.connect(superuser);
  await admin.unsafe("set search_path = pg_catalog, pg_temp; set check_function_bodies = off");
  for (const { step, identity, statement } of script) {
    await admin.unsafe(statement).catch((error) => {
      throw new Error(`step ${step}, ${identity}: ${error.message}\n${statement}`, { cause: error });
    });
  }
  return { source, target };
}

async function serverMajor(): Promise<number> {
  const sql = connect({ port: inject("port") });
  const [row] = await sql<[{ major: number }]>`select current_setting('server_version_num')::int / 10000 as major`;
  await sql.end();
  return row.major;
}

/** Tables whose rows can be read: an owner can take that from himself, and a foreign partition's server is nowhere. */
async function readableTables(sql: postgres.Sql): Promise<string[]> {
  const tables = await sql<{ name: string }[]>`
    select c.relname as name from pg_class as c
    where c.relnamespace = 'app'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
      and has_table_privilege(c.oid, 'select')
      and not exists (select from pg_inherits as i join pg_foreign_table as f on f.ftrelid = i.inhrelid where i.inhparent = c.oid)`;
  return tables.map(({ name }) => name);
}

/** What the product says of a schema's objects, each under its kind and identity. */
async function objects(sql: postgres.Sql): Promise<Record<string, unknown>> {
  const rows = await sql<{ key: string; content: unknown }[]>`
    select format('%s %s', kind, identity) as key, jsonb_build_object(
      'parent', parent_name, 'definition', definition, 'settings', settings, 'is_internal', is_internal,
      'owner', owner, 'comment', comment, 'grants', grants,
      'place', rank() over (partition by kind, parent_name order by sort_order)
    ) as content
    from migration_guard.schema_inventory('app')`;
  return Object.fromEntries(rows.map(({ key, content }) => [key, content]));
}

/** Where each sequence stands, whoever owns it. */
async function sequenceValues(database: TestDatabase): Promise<unknown[]> {
  const admin = database.connect(superuser);
  const sequences = await admin<{ name: string }[]>`
    select format('%I.%I', schemaname, sequencename) as name from pg_sequences where schemaname = 'app' order by 1`;
  return Promise.all(sequences.map(async ({ name }) => [
    name,
    ...await admin.unsafe(`select last_value::text, is_called from ${name}`),
  ]));
}

describe.for([...schemaFiles.map((file) => [file]), schemaFiles].map((files) => ({
  name: files.length === 1 ? files[0]! : "all of them in one schema",
  files,
})))("$name", ({ files }) => {
  let made: Promise<Pair> | undefined;
  /** Made once, by the first test that wants it; skips the test where Postgres is too old for the file. */
  const pair = async ({ skip }: TestContext): Promise<Pair> => {
    const major = await serverMajor();
    if (files.length === 1 && neededMajor(files[0]!) > major) skip(`Postgres ${major} does not have these objects`);
    return made ??= rebuild(files.filter((file) => neededMajor(file) <= major));
  };
  afterAll(async () => {
    const databases = await made?.catch(() => undefined);
    await databases?.source.drop();
    await databases?.target.drop();
  });

  test("a backup of it passes every check", async (context) => {
    const { source } = await pair(context);
    const checks = await verify(source.sql, "v1");
    expect(checks.size).toBeGreaterThan(0);
    expect([...checks].filter(([, { status }]) => status !== "OK")).toEqual([]);
  });

  test("every object is found again, with the same definition, settings, owner, comment, privileges and place", async (context) => {
    const { source, target } = await pair(context);
    const before = await objects(source.sql);
    expect(Object.keys(before).length).toBeGreaterThan(1);
    expect(await objects(target.sql)).toEqual(before);
  });

  test("every sequence stands where it stood", async (context) => {
    const { source, target } = await pair(context);
    expect(await sequenceValues(target)).toEqual(await sequenceValues(source));
  });

  test("Postgres's own catalogs say the same of both", async (context) => {
    const { source, target } = await pair(context);
    const rows = (database: TestDatabase) => catalogRows(database.connect(superuser), /migration_backup_v1/);
    const before = await rows(source);
    expect(before.some((row) => row.includes("app."))).toBe(true);
    expect(difference(before, await rows(target))).toEqual([]);
  });

  test("pg_dump writes the same of both", async (context) => {
    const { source, target } = await pair(context);
    const reason = whyNoPgDump(await serverMajor());
    if (reason) context.skip(reason);
    const dump = ({ port, name }: TestDatabase) =>
      pgDump({ port, database: name, exceptSchemas: ["migration_guard*", "migration_backup_*"] }).split("\n");
    const before = dump(source);
    expect(before.some((line) => line.startsWith("CREATE TABLE app."))).toBe(true);
    expect(dump(target)).toEqual(before);
  });
});
