import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { superuser } from "../../local/postgres.ts";
import { backUp } from "../support/backup.ts";
import { test, type TestDatabase } from "../support/database.ts";
import { difference } from "../support/difference.ts";
import { exampleFile, examplePlan } from "../support/example.ts";
import { pgDump, whyNoPgDump } from "../support/pg-dump.ts";
import { rollBack, type RollbackOptions, tryRollBack } from "../support/rollback.ts";
import { schemaState } from "../support/schema-state.ts";
import { tableRows } from "../support/table-rows.ts";

const folder = join(import.meta.dirname, "migrations");
const migrations = readdirSync(folder).sort();

/** Those that make tables, which stay unless somebody says that they go. */
const withNewTables = ["repartition", "soft-delete-to-archive", "split-a-table"];

const read = (name: string, file: string) => readFileSync(join(folder, name, `${file}.sql`), "utf8");

type Before = { catalog: string[]; rows: string[] };

/** What a schema is like now, as far as Postgres and the product can tell, and its rows. */
async function remember({ connect }: TestDatabase, schema: string): Promise<Before> {
  const connections = { sql: connect(), admin: connect(superuser) };
  const before = { catalog: await schemaState(connections, schema), rows: await tableRows(connections.admin, schema) };
  await Promise.all(Object.values(connections).map((sql) => sql.end()));
  return before;
}

/** A database that has been backed up, then migrated and used, and what it was before. */
async function migrate(database: TestDatabase, name: string): Promise<Before> {
  const { sql } = database;
  await sql.unsafe(read(name, "before")).simple();
  const before = await remember(database, "app");
  expect(before.catalog.some((line) => line.includes("app."))).toBe(true);
  await backUp(sql, "v1", { schema: "app", tables: "*" });
  await sql.unsafe(read(name, "migration")).simple();
  await sql.unsafe(read(name, "later")).simple();
  expect(difference(before.catalog, (await remember(database, "app")).catalog)).not.toEqual([]);
  return before;
}

const optionsFor = (name: string, data: "keep" | "restore"): RollbackOptions => ({
  data,
  ...(withNewTables.includes(name) ? { drop_new: "all" } : {}),
});

async function expectNothingLeftToDo({ sql }: TestDatabase, options: RollbackOptions): Promise<void> {
  const { result } = await rollBack(sql, "v1", options);
  expect(result).toMatchObject({ no_op: true });
}

describe.for(migrations)("%s", (name) => {
  test("restore gives back the schema and every row, and a second rollback has nothing to do", async ({ database }) => {
    const before = await migrate(database, name);
    const options = optionsFor(name, "restore");
    const job = await rollBack(database.sql, "v1", options);
    expect(job.result).toMatchObject({ no_op: false, rehearsed: false, catalog: { identical: true } });
    const after = await remember(database, "app");
    expect(difference(before.catalog, after.catalog)).toEqual([]);
    expect(difference(before.rows, after.rows)).toEqual([]);
    await expectNothingLeftToDo(database, options);
  });

  if (existsSync(join(folder, name, "kept.sql"))) {
    test("keep gives back the schema, with the rows that were written since", async ({ database }) => {
      const before = await migrate(database, name);
      const options = optionsFor(name, "keep");
      await rollBack(database.sql, "v1", options);
      expect(difference(before.catalog, (await remember(database, "app")).catalog)).toEqual([]);
      await expectNothingLeftToDo(database, options);
      const [kept] = await database.sql.unsafe<Record<string, boolean>[]>(read(name, "kept"));
      expect(Object.keys(kept!)).not.toEqual([]);
      expect(Object.entries(kept!).filter(([, isSo]) => isSo !== true)).toEqual([]);
    });
  }
});

test("people whose two names were merged since cannot be kept: the job names them, and nothing is changed", async ({ database }) => {
  await migrate(database, "merge-two-columns");
  const before = await remember(database, "app");
  const job = await tryRollBack(database.sql, "v1", { data: "keep" });
  expect(job).toMatchObject({
    status: "failed",
    error: { code: "rows_violate_constraint", keys: [{ id: "11111111-0000-4000-8000-000000000001" }] },
  });
  const after = await remember(database, "app");
  expect(difference(before.catalog, after.catalog)).toEqual([]);
  expect(difference(before.rows, after.rows)).toEqual([]);
});

describe("v10.0 of the example", () => {
  const newRows = `
    begin;
    set local request.jwt.claims = '{"role": "service_role"}';
    insert into auth.users (id) values ('10000009-0000-4000-8000-000000000000'), ('20000009-0000-4000-8000-000000000000');
    select public.create_user_profile('10000009-0000-4000-8000-000000000000', 'coach9@x.y', 'Coach', 'curator');
    select public.create_user_profile('20000009-0000-4000-8000-000000000000', 'client9@x.y', null);
    insert into public.invite_codes (code, curator_id) values ('NEWCODE9', '10000009-0000-4000-8000-000000000000');
    insert into public.curator_notes (curator_id, client_id, note)
    values ('10000009-0000-4000-8000-000000000000', '20000009-0000-4000-8000-000000000000', 'written later');
    commit`;
  const dump = ({ port, name }: TestDatabase) =>
    pgDump({ port, database: name, exceptSchemas: ["migration_guard*", "migration_backup_*"] }).split("\n");

  async function migrateExample(example: TestDatabase): Promise<Before> {
    const before = await remember(example, "public");
    await backUp(example.sql, "v10", examplePlan);
    await example.sql.unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql")).simple();
    await example.sql.unsafe(newRows).simple();
    return before;
  }

  test("restore gives back the schema and every row", async ({ example }) => {
    const before = await migrateExample(example);
    await rollBack(example.sql, "v10", { data: "restore" });
    const after = await remember(example, "public");
    expect(difference(before.catalog, after.catalog)).toEqual([]);
    expect(difference(before.rows, after.rows)).toEqual([]);
  });

  test("keep gives back the schema, and what was written since under its old names", async ({ example }) => {
    const before = await migrateExample(example);
    await rollBack(example.sql, "v10", { data: "keep" });
    const after = await remember(example, "public");
    expect(difference(before.catalog, after.catalog)).toEqual([]);
    const changed = difference(before.rows, after.rows);
    expect(changed.filter((line) => line.startsWith("-"))).toEqual([]);
    expect(changed.map((line) => line.split(":")[0]).sort()).toEqual([
      "+ coordinator_notes",
      "+ invite_codes",
      "+ profiles",
      "+ profiles",
    ]);
    const [note] = await example.sql`
      select n.note, p.role::text from public.coordinator_notes as n join public.profiles as p on p.id = n.coordinator_id
      where n.coordinator_id = '10000009-0000-4000-8000-000000000000'`;
    expect(note).toEqual({ note: "written later", role: "coordinator" });
  });

  test("pg_dump writes the same of it before and after", async ({ example, skip }) => {
    const [{ major }] = await example.sql<[{ major: number }]>`
      select current_setting('server_version_num')::int / 10000 as major`;
    const reason = whyNoPgDump(major);
    if (reason) skip(reason);
    const before = dump(example);
    expect(before.some((line) => line.startsWith("CREATE TABLE public."))).toBe(true);
    await migrateExample(example);
    expect(dump(example)).not.toEqual(before);
    await rollBack(example.sql, "v10", { data: "keep" });
    expect(dump(example)).toEqual(before);
  });
});
