import { randomBytes } from "node:crypto";
import { generateIdentity, identityToRecipient } from "age-encryption";
import type postgres from "postgres";
import { describe, expect } from "vitest";
import { loadExample } from "../../local/database.ts";
import { importStep } from "../../supabase/functions/migration-guard/exports/import-step.ts";
import type { ObjectStore } from "../../supabase/functions/migration-guard/exports/object-store.ts";
import { s3Store } from "../../supabase/functions/migration-guard/exports/s3-store.ts";
import { sha256 } from "../../supabase/functions/migration-guard/exports/sha256.ts";
import { takeStep } from "../../supabase/functions/migration-guard/exports/take-step.ts";
import { backUp, lastJob, verify, work } from "../support/backup.ts";
import { createDatabase, test as base } from "../support/database.ts";
import { exampleFile, examplePlan } from "../support/example.ts";
import { takeImport, transferOf, tryImport } from "../support/import.ts";
import { rollBack } from "../support/rollback.ts";
import { startS3 } from "../support/s3.ts";
import { tableRows } from "../support/table-rows.ts";
import { until } from "../support/until.ts";
import {
  type Draft,
  draftExport,
  type DraftOptions,
  finishExport,
  type Folder,
  type ManifestColumn,
  storeExport,
  writeSums,
} from "../support/write-export.ts";

const schema = "migration_backup_v10";

/** `test` with a store that the tests of the file share. */
const test = base.extend("store", { scope: "file" }, async ({}, { onCleanup }) => {
  const s3 = await startS3();
  onCleanup(s3.stop);
  return s3Store("offsite", s3.target, { maxAttempts: 3, pause: 10 });
});

/** Drops a backup's schema, as a cleanup at once would. */
async function remove(sql: postgres.Sql, name = schema) {
  await sql.unsafe(`drop schema ${name} cascade`);
  await sql`
    update migration_guard.backups set removed_at = now(), removed_by = 'test' where schema_name = ${name} and removed_at is null`;
}

type ExportOptions = DraftOptions & {
  /** Changes what the backup has recorded, and the manifests are those of that. */
  record?: (sql: postgres.Sql) => Promise<unknown>;
  /** Changes what is written, whose sums are right then. */
  change?: (draft: Draft) => unknown;
  /** Changes what was written. */
  damage?: (folder: Folder) => unknown;
};

/** Takes the example's backup, writes an export of it as `change` has made it, and removes the backup. */
async function exportExample(
  sql: postgres.Sql,
  store: ObjectStore,
  { record, change = () => {}, damage = () => {}, ...options }: ExportOptions = {},
) {
  const { result } = await backUp(sql, "v10", examplePlan);
  if (record) {
    await record(sql);
    await sql`update ${sql(schema)}.backup_metadata set manifest = ${sql(schema)}.compute_manifest()`;
    await sql`update migration_guard.backups as b set manifest = m.manifest from ${sql(schema)}.backup_metadata as m`;
  }
  const draft = await draftExport(sql, schema, options);
  await change(draft);
  const folder = await finishExport(draft);
  await damage(folder);
  await storeExport(store, folder);
  await remove(sql);
  return { id: folder.id, manifest: result.manifest as string, draft, folder };
}

/** One database, without a backup, for all that is refused, since that leaves nothing; and what an export of it would be. */
const made = test.extend("made", { scope: "file" }, async ({ store }, { onCleanup }) => {
  const database = await createDatabase("with_example");
  onCleanup(database.drop);
  return { sql: database.sql, ...await exportExample(database.sql, store) };
});

/** Writes an export once more, as another one, as `change` has made it. */
async function exportAgain(store: ObjectStore, draft: Draft, change: (draft: Draft) => unknown = () => {}) {
  const manifest = structuredClone(draft.manifest);
  manifest.export = manifest.export.replace(/.{8}$/, randomBytes(4).toString("hex"));
  const copy = { ...draft, manifest };
  await change(copy);
  const folder = await finishExport(copy);
  await storeExport(store, folder);
  return folder;
}

const migrate = (sql: postgres.Sql) =>
  sql.unsafe(exampleFile("migrations", "v10.0_coordinator_to_curator.sql")).simple();

/** The checks of a backup that have not passed. */
const failedChecks = async (sql: postgres.Sql, version = "v10") =>
  [...await verify(sql, version)].filter(([, { status }]) => status !== "OK");

async function diff(sql: postgres.Sql, version = "v10") {
  await sql`select migration_guard.enqueue_diff(${version}, 'test')`;
  await work(sql);
  const job = await lastJob(sql);
  expect(job.error).toBeNull();
  return job.result;
}

/** What an import has left in the database. */
async function leftovers(sql: postgres.Sql) {
  return {
    schemas: [...await sql`select nspname from pg_namespace where nspname ~ '^migration_(import|backup)_'`],
    backups: [...await sql`select id from migration_guard.backups where removed_at is null`],
    chunks: [...await sql`select from migration_guard.import_chunks`],
  };
}
const nothing = { schemas: [], backups: [], chunks: [] };

describe("a backup that is imported", () => {
  test("is what it was: every check passes, nothing differs, and it leads back what the migration does", async ({ example: { sql }, store }) => {
    const identity = await generateIdentity();
    await backUp(sql, "v10", examplePlan);
    const before = { backup: await tableRows(sql, schema), app: await tableRows(sql, "public") };
    const members = await sql`select members from migration_guard.backups`;
    const comments = () =>
      sql`
      select pg_describe_object(classoid, objoid, objsubid) as object, description from pg_description
      where pg_describe_object(classoid, objoid, objsubid) ~ ${schema} order by 1`;
    const said = [...await comments()];
    await remove(sql);
    await sql`truncate migration_guard.backups cascade`;

    const { id, manifest } = await exportExample(sql, store, {
      recipients: [await identityToRecipient(identity)],
      targetBytes: 10_000,
    });
    await sql`delete from migration_guard.plans`;
    const job = await tryImport(sql, id, { store, identities: [identity], expectedManifest: manifest });
    expect(job).toMatchObject({
      status: "succeeded",
      error: null,
      result: {
        schema,
        version: "v10.0",
        manifest,
        export: id,
        plan_put_back: true,
        tables: examplePlan.tables.length,
      },
    });
    expect(await failedChecks(sql)).toEqual([]);
    expect((await tableRows(sql, schema)).map(withoutTimes)).toEqual(before.backup.map(withoutTimes));
    expect([...await comments()]).toEqual(said);
    expect(await sql`select members from migration_guard.backups`).toEqual(members);
    expect(await sql`select from migration_guard.import_chunks`).toHaveLength(0);
    expect(await diff(sql)).toMatchObject({ is_clean: true });

    await migrate(sql);
    expect(await diff(sql)).toMatchObject({ is_clean: false });
    await rollBack(sql, "v10");
    expect(await diff(sql)).toMatchObject({ is_clean: true });
    expect(await tableRows(sql, "public")).toEqual(before.app);
  });

  test("in another database is compared by names, and leads that one back", async ({ example: { sql, port }, store }) => {
    const { id } = await exportExample(sql, store);
    const other = await createDatabase("with_product");
    try {
      // So that the same objects have other OIDs.
      await other.sql`create table public.earlier (id int)`;
      await other.sql`drop table public.earlier`;
      await loadExample({ port, database: other.name });
      expect(await tryImport(other.sql, id, { store })).toMatchObject({ status: "succeeded", error: null });
      expect(await failedChecks(other.sql)).toEqual([]);
      expect((await diff(other.sql)).objects).toEqual([]);
      await other.sql`create policy "mine" on public.profiles for select using (true)`;
      await other.sql`update public.profiles set email = 'x' || email`;
      await rollBack(other.sql, "v10", { data: "restore", drop_new: "all" });
      expect((await diff(other.sql)).objects).toEqual([]);
      expect(await tableRows(other.sql, "public")).toEqual(await tableRows(sql, "public"));
      const oids = (sql: postgres.Sql) => sql`select 'public.profiles'::regclass::oid as oid`;
      expect(await oids(other.sql)).not.toEqual(await oids(sql));
    } finally {
      await other.drop();
    }
  });

  test("may be that of another version, beside the first one, once that is not there", async ({ example: { sql }, store }) => {
    await backUp(sql, "v10", examplePlan);
    const folder = await finishExport(await draftExport(sql, schema));
    await storeExport(store, folder);
    const options = { store, version: "v11.2" };
    expect(await tryImport(sql, folder.id, options)).toMatchObject({
      status: "failed",
      error: { code: "backup_exists", message: expect.stringContaining("of v10.0") },
    });
    expect(await failedChecks(sql)).toEqual([]);
    await sql`
      insert into migration_guard.exports (id, backup_id, version, target, actor, state, finished_at, sums_sha256)
      select ${folder.id}, b.id, b.version, 'offsite', 'test', 'complete', now(), ${
      sha256(folder.objects.get("SHA256SUMS")!)
    } from migration_guard.backups as b`;
    const events = {
      rolled_back_at: "2026-01-01",
      rolled_back_by: "alice",
      last_diff: { is_clean: true },
      last_diff_at: "2026-01-01",
    };
    await sql`update migration_guard.backups set ${sql(events as never)}`;
    await remove(sql);
    expect(await tryImport(sql, folder.id, { store })).toMatchObject({ error: null, result: { version: "v10.0" } });
    expect(await sql`select rolled_back_by, last_diff from migration_guard.backups`)
      .toEqual([{ rolled_back_by: "alice", last_diff: { is_clean: true } }]);
    await remove(sql);
    expect(await tryImport(sql, folder.id, options)).toMatchObject({
      error: null,
      result: { schema: "migration_backup_v11_2", version: "v11.2" },
    });
    expect(await failedChecks(sql, "v11.2")).toEqual([]);
    expect(await sql`select rolled_back_at, rolled_back_by, last_diff, last_diff_at from migration_guard.backups`)
      .toEqual([{ rolled_back_at: null, rolled_back_by: null, last_diff: null, last_diff_at: null }]);
    // Its exports are found by the version that it has now, and by the one that their names have.
    const listed = (version: string) => sql`select id, version from migration_guard_api.list_exports(${version})`;
    expect(await listed("v10")).toEqual([{ id: folder.id, version: "v11.2" }]);
    expect(await listed("v11.2")).toEqual([{ id: folder.id, version: "v11.2" }]);
  });

  test("has its plan registered as plans are here, however its numbers were written, and with what it does not say", async ({ example: { sql }, store }) => {
    const plan = { ...examplePlan, trash_hours: 24, two_keys: false, require_export: false, notify_url: null };
    const { id } = await exportExample(sql, store, {
      record: (sql) =>
        sql`
          update ${sql(schema)}.backup_metadata
          set plan = plan - '{two_keys,require_export,notify_url}'::text[] || '{"retention_days": 14.0, "trash_hours": 24.00}'`,
    });
    expect(await tryImport(sql, id, { store })).toMatchObject({ status: "succeeded", error: null });
    const [registered] = await sql`select plan from migration_guard.backups where removed_at is null`;
    expect(registered!.plan).toMatchObject(plan);
    const shown =
      await sql`select retention_days, trash_hours, two_keys, require_export from migration_guard_api.list_backups()`;
    expect([...shown]).toEqual([{ retention_days: 14, trash_hours: 24, two_keys: false, require_export: false }]);
  });

  test("keeps its sign-off, and can be cleaned up", async ({ example: { sql }, store }) => {
    const { id } = await exportExample(sql, store);
    await sql`update migration_guard.backups set confirmed_at = '2026-01-01', confirmed_by = 'alice', confirmation_note = 'ok'`;
    await tryImport(sql, id, { store });
    const [{ plan }] = await sql<[{ plan: { guards: { guard: string; passed: boolean }[]; token: string } }]>`
      select to_jsonb(p) as plan from migration_guard_api.plan_cleanup('v10', 'default') as p`;
    expect(plan.guards.filter(({ passed }) => !passed)).toEqual([]);
    await sql`select migration_guard_api.delete_backup('v10', ${schema}, ${plan.token}, 'default')`;
    await work(sql);
    expect(await lastJob(sql)).toMatchObject({ error: null, status: "succeeded" });
    // In the trash it is still there.
    expect(await tryImport(sql, id, { store })).toMatchObject({
      error: { code: "backup_exists", message: expect.stringContaining("as that of v10.0, in the trash") },
    });
  });

  test("has columns of all of Postgres's types, with measures and collations, and names of any kind", async ({ database: { sql }, store }) => {
    const [made] = await sql<[{ columns: string }]>`
      select string_agg(format('%I %s', 'c"' || row_number, type), ', ' order by row_number) as columns from (
        select row_number() over (order by t.oid), format_type(t.oid, -1) as type from pg_type as t
        where t.typnamespace = 'pg_catalog'::regnamespace and t.typtype in ('b', 'r', 'm') and t.typrelid = 0
          and not exists (select from pg_type as e where e.oid = t.typelem and e.typtype in ('c', 'p'))
          and t.typname !~ '^_?(pg_node_tree|pg_ndistinct|pg_dependencies|pg_mcv_list|pg_brin.*|gtsvector|oidvector|int2vector)$'
      ) as t`;
    const name = 'a "table"; drop schema public; --\n%s %I é';
    await sql.unsafe(`create table public."${name.replaceAll('"', '""')}" (id int primary key, ${made.columns},
      "select" numeric(5,2), "; --" numeric(7,-2), "a\nb" varchar(3)[], "%I" bit varying(3), i interval day to second(3), y interval year to month,
      t timestamp(3) with time zone[], z time(0) without time zone, b bpchar, k "char", n name, x bit(8), collated text collate "C", posix varchar(9) collate "POSIX")`);
    await sql.unsafe(`insert into public."${name.replaceAll('"', '""')}" (id, "a\nb", t, collated, i) values
      (1, '{a,null,"b,c"}', '{2026-01-01 00:00:00.123+00,infinity}', E'\\\\N\\t\\n', '1 day 00:00:00.5'), (2, null, null, '', null)`);
    await sql`create table public."select" ()`;
    await sql`insert into public."select" default values`;
    await backUp(sql, "v10", { tables: "*" });
    const before = await tableRows(sql, schema);
    const draft = await draftExport(sql, schema);
    await storeExport(store, await finishExport(draft));
    await remove(sql);
    expect(await tryImport(sql, draft.manifest.export, { store })).toMatchObject({ error: null, status: "succeeded" });
    expect(await failedChecks(sql)).toEqual([]);
    expect(await tableRows(sql, schema)).toEqual(before);
    expect(await diff(sql)).toMatchObject({ is_clean: true });
  });

  test("does not make another backup look stale while it is loaded", async ({ example: { sql }, store }) => {
    const { id } = await exportExample(sql, store);
    await backUp(sql, "v9", { tables: ["profiles"] });
    const fingerprint = () => sql`select fingerprint from migration_guard.object_versions()`;
    const before = await fingerprint();
    const options = { store };
    const jobId = await takeImport(sql, id, options);
    await importStep(transferOf(sql, jobId, options));
    expect(await sql`select from pg_namespace where nspname ~ '^migration_import_'`).toHaveLength(1);
    expect(await fingerprint()).toEqual(before);
    await sql`select migration_guard.enqueue_diff('v9', 'test', exact => true)`;
    await work(sql);
    expect((await lastJob(sql)).result).toMatchObject({ is_clean: true });
  });
});

// Of a table's own rows, when they were written.
const withoutTimes = (line: string) =>
  line.replace(/"(backed_up_at|backup_date|backup_id|snapshot|manifest)": "[^"]*"/g, "").replace(
    /"source_filenode": [^,}]*/,
    "",
  );

describe("an export that is not what was written", () => {
  type Case = [name: string, code: string, options: ExportOptions & { said?: RegExp }];
  const of = (draft: Draft, name: string) => draft.manifest.tables.find((table) => table.name === name)!;
  const dataChunk = ({ objects }: Folder) => [...objects.keys()].filter((name) => name.startsWith("data/")).at(-1)!;
  const flip = (bytes: Uint8Array) =>
    bytes.map((byte, i) => i === bytes.length - 1 ? byte ^ 1 : byte) as Uint8Array<ArrayBuffer>;
  const inManifest = (folder: Folder, change: (text: string) => string) =>
    folder.objects.set(
      "manifest.json",
      new Uint8Array(Buffer.from(change(Buffer.from(folder.objects.get("manifest.json")!).toString()))),
    );

  const cases: Case[] = [
    ["it is not finished", "export_not_found", { damage: ({ objects }) => objects.delete("SHA256SUMS") }],
    ["a chunk is missing", "object_missing", { damage: (folder) => folder.objects.delete(dataChunk(folder)) }],
    ["a chunk is cut off", "chunk_altered", {
      damage: (folder) => folder.objects.set(dataChunk(folder), folder.objects.get(dataChunk(folder))!.slice(0, -1)),
    }],
    ["a chunk is longer", "chunk_altered", {
      damage: (folder) =>
        folder.objects.set(dataChunk(folder), new Uint8Array([...folder.objects.get(dataChunk(folder))!, 0])),
    }],
    ["a chunk is altered", "chunk_altered", {
      damage: (folder) => folder.objects.set(dataChunk(folder), flip(folder.objects.get(dataChunk(folder))!)),
    }],
    ["a chunk is altered, and its sum with it", "export_altered", {
      damage: ({ objects, ...folder }) => {
        const name = dataChunk({ objects, ...folder });
        objects.set(name, flip(objects.get(name)!));
        writeSums(objects);
      },
    }],
    ["two chunks are swapped", "chunk_altered", {
      targetBytes: 2000,
      damage: ({ objects }) => {
        const [one, other] = [...objects.keys()].filter((name) => name.startsWith("data/"));
        const bytes = objects.get(one!)!;
        objects.set(one!, objects.get(other!)!).set(other!, bytes);
      },
    }],
    ["two chunks are swapped in the list", "manifest_invalid", {
      change: ({ manifest: { chunks: [one, other] } }) => {
        [one!.number, other!.number] = [other!.number, one!.number];
      },
    }],
    ["the manifest is altered", "export_altered", {
      damage: (folder) => inManifest(folder, (text) => text.replace('"rows":1', '"rows":2')),
    }],
    ["the sums have another line", "export_altered", {
      damage: ({ objects }) =>
        objects.set("SHA256SUMS", new Uint8Array([...objects.get("SHA256SUMS")!, ...Buffer.from("x\n")])),
    }],
    ["there are two manifests", "export_altered", {
      damage: ({ objects }) => {
        objects.set("manifest.json.age", objects.get("manifest.json")!);
        writeSums(objects);
      },
    }],
    ["it is of another version of the format", "export_format_unknown", {
      change: ({ manifest }) => {
        manifest.format_version = 2;
        manifest.tables = [];
      },
    }],
    ["it is of another format", "export_format_unknown", { change: ({ manifest }) => manifest.format = "pg_dump" }],
    ["the manifest is no JSON", "manifest_invalid", {
      damage: (folder) => {
        inManifest(folder, (text) => text.slice(1));
        writeSums(folder.objects);
      },
    }],
    ["it is that of another folder", "export_altered", {
      damage: (folder) => folder.id = folder.id.replace(/.{8}$/, "00000000"),
    }],
    ["its rows are more than its chunks have", "manifest_invalid", {
      change: (draft) => of(draft, "profiles_backup").rows++,
      said: /tables\.\d+\.rows/,
    }],
    ["a chunk is in no table", "manifest_invalid", { change: (draft) => of(draft, "tables_backup").chunks.pop() }],
    ["a chunk is in two tables", "manifest_invalid", {
      change: (draft) => of(draft, "profiles_backup").chunks.push(of(draft, "tables_backup").chunks[0]!),
    }],
  ];

  test.for(cases)("%s: %s", async ([, code, { said = /./, ...options }], { example: { sql }, store }) => {
    const { id } = await exportExample(sql, store, options);
    expect(await tryImport(sql, id, { store })).toMatchObject({
      status: "failed",
      error: { code, message: expect.stringMatching(said) },
    });
    expect(await leftovers(sql)).toEqual(nothing);
  });

  test("is told by a manifest that was noted, and by sums that the database knows", async ({ example: { sql }, store }) => {
    const { id } = await exportExample(sql, store);
    expect(await tryImport(sql, id, { store, expectedManifest: "0".repeat(64) })).toMatchObject({
      error: { code: "manifest_unexpected" },
    });
    await sql`
      insert into migration_guard.exports (id, backup_id, version, target, actor, state, finished_at, sums_sha256)
      select ${id}, b.id, b.version, 'offsite', 'test', 'complete', now(), ${
      "0".repeat(64)
    } from migration_guard.backups as b`;
    expect(await tryImport(sql, id, { store })).toMatchObject({ error: { code: "export_altered" } });
    expect(await leftovers(sql)).toEqual(nothing);
  });

  test("is told from one that the identities do not open", async ({ example: { sql }, store }) => {
    const [own, other] = [await generateIdentity(), await generateIdentity()];
    const { id } = await exportExample(sql, store, { recipients: [await identityToRecipient(own)] });
    expect(await tryImport(sql, id, { store })).toMatchObject({ error: { code: "identity_missing" } });
    expect(await tryImport(sql, id, { store, identities: [other] })).toMatchObject({
      error: { code: "identity_wrong", message: expect.stringContaining("manifest.json.age") },
    });
    expect(await leftovers(sql)).toEqual(nothing);
    expect(await tryImport(sql, id, { store, identities: [other, own] })).toMatchObject({ error: null });
  });
});

/** All sums are right: it was made by somebody who can write them. */
describe("an export that was made to deceive", () => {
  type Case = [name: string, code: string, options: ExportOptions];
  const rowsOf = (name: string, rewrite: (text: string) => string): ExportOptions => ({
    rewrite: (table, text) => table === name ? rewrite(text) : text,
  });
  const changed = (change: (draft: Draft) => unknown): ExportOptions => ({ change });
  const of = (draft: Draft, name = "profiles_backup") => draft.manifest.tables.find((table) => table.name === name)!;
  const rename = (name: string) =>
    changed((draft) => {
      for (const chunk of draft.manifest.chunks) if (chunk.table === "profiles_backup") chunk.table = name;
      of(draft).name = name;
    });
  const column = (change: (column: ManifestColumn) => unknown) => changed((draft) => change(of(draft).columns[0]!));
  const empty = (name: string, columns: ManifestColumn[] = []) => ({
    ...{ name, columns, source: null, rows: 0 },
    ...{ checksum: null, chunks: [] },
  });

  const cases: Case[] = [
    ["a value is another", "import_damaged", rowsOf("profiles_backup", (text) => text.replace("@", "x"))],
    ["a row is there twice", "import_damaged", rowsOf("profiles_backup", (text) => text + text.split("\n")[0] + "\n")],
    ["a row is of another form", "import_damaged", rowsOf("profiles_backup", (text) => "x\n" + text)],
    ["a key is there twice", "import_damaged", rowsOf("tables_backup", (text) => text + text)],
    [
      "a definition is another",
      "import_damaged",
      rowsOf("objects_backup", (text) => text.replace("create policy", "drop policy")),
    ],
    ["there are no metadata", "import_damaged", rowsOf("backup_metadata", () => "")],
    [
      "there are metadata twice",
      "import_damaged",
      rowsOf("backup_metadata", (text) => text + text.replace(/^.{8}/, "00000000")),
    ],
    ["a snapshot is none", "import_damaged", rowsOf("backup_metadata", (text) => text.replace(/\d+:\d+:[\d,]*/, "x"))],
    [
      "a plan is for the product's own schema",
      "invalid_plan",
      rowsOf("backup_metadata", (text) => text.replace('"schema": "public"', '"schema": "migration_guard"')),
    ],
    [
      "tables_backup names no table",
      "import_damaged",
      rowsOf("tables_backup", (text) => text.replaceAll("profiles_backup", "../x")),
    ],
    [
      "tables_backup has no checksum",
      "import_damaged",
      rowsOf("tables_backup", (text) => text.replace(/\d+:\d+:\d+/, "\\N")),
    ],
    [
      "the manifest tells of another backup",
      "import_damaged",
      changed(({ manifest: { backup } }) => backup.backup_id = "00000000-0000-4000-8000-000000000000"),
    ],
    [
      "the manifest tells two checksums",
      "export_altered",
      changed(({ manifest }) => manifest.manifest = "0".repeat(64)),
    ],
    [
      "a table more, which the backup did not make",
      "import_damaged",
      changed(({ manifest }) => manifest.tables.push(empty("functions_backup_"))),
    ],
    [
      "a table has the name of a view",
      "manifest_invalid",
      changed(({ manifest }) => manifest.tables.push(empty("functions_backup"))),
    ],
    [
      "a table has the name of a view of an enum",
      "import_damaged",
      changed(({ manifest }) => manifest.tables.push(empty("user_role_enum_backup"))),
    ],
    [
      "a catalog is missing",
      "manifest_invalid",
      changed(({ manifest }) => manifest.tables = manifest.tables.filter(({ name }) => name !== "dependencies_backup")),
    ],
    ["a catalog has other columns", "manifest_invalid", changed((draft) => of(draft, "tables_backup").columns.pop())],
    ["a name has NUL", "manifest_invalid", rename("a\0b")],
    ["a name is too long", "manifest_invalid", rename("é".repeat(32))],
    ["a name is empty", "manifest_invalid", rename("")],
    ["a name has half a surrogate pair", "manifest_invalid", rename("\ud800")],
    ["a column's name has NUL", "manifest_invalid", column((c) => c.name = "\0")],
    ["a column's name is too long", "manifest_invalid", column((c) => c.name = "x".repeat(64))],
    [
      "two columns have a name",
      "manifest_invalid",
      changed((draft) => of(draft).columns[1]!.name = of(draft).columns[0]!.name),
    ],
    [
      "too many columns",
      "manifest_invalid",
      changed(({ manifest }) =>
        manifest.tables.push(
          empty("wide", Array.from({ length: 1601 }, (_, i) => ({ name: `c${i}`, type: "integer", collation: null }))),
        )
      ),
    ],
    [
      "too many tables",
      "manifest_invalid",
      changed(({ manifest }) => manifest.tables.push(...Array.from({ length: 10_000 }, (_, i) => empty(`t${i}`)))),
    ],
    ...[
      ...[
        "int); drop schema public cascade; --",
        "text default pg_sleep(1)",
        'text collate "C"',
        "serial",
        "bigserial",
        "integer not null",
      ],
      ...[
        "integer primary key",
        "integer references pg_class",
        "integer generated always as identity",
        "public.user_role",
        "user_role",
        "profiles",
      ],
      ...[
        "numeric(1000,2000,3)",
        "setof integer",
        "",
        "integer[][]",
        "no_such_type",
        '"public.x"',
        "int",
        "varchar(0)",
        "anyelement",
        "timestamp(99) with time zone",
      ],
      ...["text[]; select 1", "record", "cstring", "varchar(999999999)", "\0", "character varying(10) [] "],
    ].map((type): Case => [`a type is ${JSON.stringify(type)}`, "manifest_invalid", column((c) => c.type = type)]),
    ...[
      'pg_catalog."C"; --',
      "public.x",
      '"C"',
      'pg_catalog."no such"',
      'pg_catalog."en_US"""',
      "",
      'pg_catalog."en-x-icu"',
    ].map((collation): Case => [
      `a collation is ${collation}`,
      "manifest_invalid",
      changed((draft) => of(draft).columns.find(({ type }) => type === "text")!.collation = collation),
    ]),
    ...[
      "../x",
      "data/../x",
      "/etc/passwd",
      "data/a b",
      "data//x",
      "SHA256SUMS",
      "manifest.json",
      "data/.hidden",
      "data/x\0",
      "x".repeat(600),
    ].map((object): Case => [
      `an object is ${JSON.stringify(object.slice(0, 20))}`,
      "manifest_invalid",
      changed(({ manifest: { chunks } }) => chunks[0]!.object = object),
    ]),
    [
      "a chunk grows beyond every limit",
      "manifest_invalid",
      changed(({ manifest: { chunks } }) => chunks[0]!.bytes.text = 2 ** 40),
    ],
    ["a number of rows is none", "manifest_invalid", changed(({ manifest: { chunks } }) => chunks[0]!.rows = -1)],
    [
      "there is no chunk",
      "manifest_invalid",
      changed(({ manifest }) => {
        manifest.chunks = [];
        for (const table of manifest.tables) Object.assign(table, { chunks: [], rows: 0 });
      }),
    ],
    [
      "what should be a list is none",
      "manifest_invalid",
      changed(({ manifest }) => Object.assign(manifest, { tables: { length: 1 } })),
    ],
    ["an id is none", "manifest_invalid", changed(({ manifest: { backup } }) => backup.backup_id = "1")],
  ];

  made.for(cases)("%s: %s", async ([, code, { change, ...options }], { made: { sql, draft }, store }) => {
    const state = async () =>
      [...await tableRows(sql, "public"), ...await sql`select nspname from pg_namespace order by 1`].map(String);
    const { id } = options.rewrite ? await exportExample(sql, store, options) : await exportAgain(store, draft, change);
    const before = await state();
    expect(await tryImport(sql, id, { store })).toMatchObject({ status: "failed", error: { code } });
    expect(await leftovers(sql)).toEqual(nothing);
    expect(await state()).toEqual(before);
  });

  test.for<[title: string, change: string, said: string]>([
    ["a date without end", "backup_metadata set backup_date = 'infinity'", "a date that is none"],
    ["a date without beginning", "backup_metadata set backup_date = '-infinity'", "a date that is none"],
    ["less than no bytes", "tables_backup set backup_bytes = -1", "numbers of bytes or rows"],
    ["more bytes than JSON can tell", "tables_backup set backup_bytes = 9007199254740992", "numbers of bytes or rows"],
    ["so many bytes in all", "tables_backup set backup_bytes = 9007199254740991", "numbers of bytes or rows"],
    ["more rows than JSON can tell", "tables_backup set row_count = 9007199254740992", "numbers of bytes or rows"],
    ["less than no rows", "tables_backup set row_count = -1", "numbers of bytes or rows"],
  ])("%s is refused, though every manifest is right", async ([, change, said], { example: { sql }, store }) => {
    const { id } = await exportExample(sql, store, { record: (sql) => sql.unsafe(`update ${schema}.${change}`) });
    expect(await tryImport(sql, id, { store })).toMatchObject({
      status: "failed",
      error: { code: "import_damaged", message: expect.stringContaining(said) },
    });
    expect(await leftovers(sql)).toEqual(nothing);
  });

  test("is refused by the database itself, whoever has read it", async ({ example: { sql }, store }) => {
    const { draft } = await exportExample(sql, store);
    const jobId = await takeImport(sql, draft.manifest.export, { store });
    const begin = (manifest: unknown) =>
      sql`select migration_guard.begin_import(${jobId}, ${sql.json(manifest as never)})`;
    const [first, ...others] = draft.manifest.tables;
    const tables = (table: unknown) => ({ ...draft.manifest, tables: [table, ...others] });
    for (
      const manifest of [
        ...[
          null,
          1,
          "x",
          [],
          {},
          { tables: [] },
          { tables: {}, chunks: {} },
          { ...draft.manifest, tables: [null] },
          tables({}),
          tables({ ...first, columns: null }),
        ],
        ...[
          tables({ ...first, name: "x".repeat(64) }),
          tables({ ...first, name: 7 }),
          tables({ ...first, columns: [null] }),
          tables({ ...first, columns: [{}] }),
        ],
        ...["int); drop schema public", "serial", "public.user_role", 7, null].map((type) =>
          tables({ ...first, columns: [{ name: "a", type, collation: null }] })
        ),
        ...["pg_catalog.x; --", "public.x", 7, {}].map((collation) =>
          tables({ ...first, columns: [{ name: "a", type: "text", collation }] })
        ),
        { ...draft.manifest, chunks: [] },
        { ...draft.manifest, chunks: [{}] },
        { ...draft.manifest, chunks: [draft.manifest.chunks[0], draft.manifest.chunks[0]] },
        { ...draft.manifest, chunks: [{ ...draft.manifest.chunks[0], object: "data/../x" }] },
        { ...draft.manifest, chunks: [{ ...draft.manifest.chunks[0], table: "pg_class" }] },
        { ...draft.manifest, manifest: null },
      ]
    ) await expect(begin(manifest), JSON.stringify(manifest)?.slice(0, 100)).rejects.toMatchObject({ code: "MG051" });
    expect(await leftovers(sql)).toEqual(nothing);
    await begin(draft.manifest);
    expect((await leftovers(sql)).schemas).toHaveLength(1);
  });
});

describe("an export of a backup that this database has known", () => {
  const row = (sql: postgres.Sql) => sql`select to_jsonb(b) as backup from migration_guard.backups as b`;

  test("is refused with another manifest, however right that is, before anything is loaded", async ({ example: { sql }, store }) => {
    const { result: { backup_id } } = await backUp(sql, "v10", examplePlan);
    await remove(sql);
    const known = await row(sql);
    await sql`update public.profiles set email = 'x' || email`;
    const { result: other } = await backUp(sql, "v10", examplePlan);
    await sql`update ${sql(schema)}.backup_metadata set backup_id = ${backup_id as string}`;
    await sql`update ${sql(schema)}.backup_metadata set manifest = ${sql(schema)}.compute_manifest()`;
    const draft = await draftExport(sql, schema);
    await storeExport(store, await finishExport(draft));
    await sql.unsafe(`drop schema ${schema} cascade`);
    await sql`delete from migration_guard.backups where id = ${other.backup_id as string}`;
    const jobId = await takeImport(sql, draft.manifest.export, { store });
    expect(await takeStep(importStep, transferOf(sql, jobId, { store }))).toBe("ended");
    expect(await lastJob(sql)).toMatchObject({
      status: "failed",
      error: { code: "import_damaged", message: expect.stringContaining("noted another manifest for that backup") },
    });
    expect(await leftovers(sql)).toEqual(nothing);
    expect(await row(sql)).toEqual(known);

    // Nothing else tells it: in another database it is a backup.
    await sql`truncate migration_guard.backups cascade`;
    expect(await tryImport(sql, draft.manifest.export, { store })).toMatchObject({ error: null });
  });

  test("is refused before a row of it is read, where the backup is there as that of another version", async ({ example: { sql }, store }) => {
    await backUp(sql, "v10", examplePlan);
    const folder = await finishExport(await draftExport(sql, schema));
    await storeExport(store, folder);
    const read: string[] = [];
    const noting: ObjectStore = { ...store, get: (name, ...rest) => (read.push(name), store.get(name, ...rest)) };
    const options = { store: noting, version: "v11.2" };
    const jobId = await takeImport(sql, folder.id, options);
    expect(await takeStep(importStep, transferOf(sql, jobId, options))).toBe("ended");
    expect(await lastJob(sql)).toMatchObject({
      status: "failed",
      error: {
        code: "backup_exists",
        message: expect.stringContaining(`as that of v10.0, in the schema ${schema}`),
      },
    });
    expect(read.sort()).toEqual([`${folder.id}/SHA256SUMS`, `${folder.id}/manifest.json`]);
    expect((await leftovers(sql)).schemas).toEqual([{ nspname: schema }]);
  });

  test("is refused with another manifest that was noted while it was loaded", async ({ example: { sql }, store }) => {
    const { id } = await exportExample(sql, store);
    const jobId = await takeImport(sql, id, { store });
    while (await importStep(transferOf(sql, jobId, { store })) !== "ended");
    await sql`update migration_guard.backups set manifest = ${"0".repeat(64)}`;
    const known = await row(sql);
    await work(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "import_damaged" } });
    expect(await row(sql)).toEqual(known);
  });
});

describe("an import that is under way", () => {
  const loaded = (sql: postgres.Sql) => sql`select from migration_guard.import_chunks where done_at is not null`;

  test("leaves nothing when it is cancelled, however far it is", async ({ example: { sql }, store }) => {
    const { id } = await exportExample(sql, store, { targetBytes: 2000 });
    for (const steps of [0, 1, 3]) {
      const jobId = await takeImport(sql, id, { store });
      const transfer = transferOf(sql, jobId, { store });
      for (let step = 0; step < steps; step++) await importStep(transfer);
      await sql`select migration_guard.cancel_job(${jobId}, 'alice')`;
      expect(await importStep(transfer)).toBe("ended");
      await work(sql);
      expect(await lastJob(sql)).toMatchObject({ status: "cancelled" });
      expect(await leftovers(sql)).toEqual(nothing);
    }
  });

  test("is cancelled while a chunk is loaded, and dropped once that is over", async ({ example: { sql, connect }, store }) => {
    const { id } = await exportExample(sql, store);
    const jobId = await takeImport(sql, id, { store });
    await importStep(transferOf(sql, jobId, { store }));
    const other = connect();
    const slow: ObjectStore = {
      ...store,
      get: async (...asked) => {
        // Its transaction is open.
        await sql`select migration_guard.cancel_job(${jobId}, 'alice')`;
        await work(sql);
        return store.get(...asked);
      },
    };
    // What it has begun, it ends: nobody takes the tables away from it.
    expect(await importStep(transferOf(other, jobId, { store: slow }))).toMatchObject({ bytes: expect.any(Number) });
    expect(await importStep(transferOf(other, jobId, { store }))).toBe("ended");
    await work(sql);
    expect(await leftovers(sql)).toEqual(nothing);
  });

  test("waits for a schema that somebody reads, and leaves alone what is not its own", async ({ example: { sql, connect }, store }) => {
    const { id } = await exportExample(sql, store);
    const jobId = await takeImport(sql, id, { store });
    await importStep(transferOf(sql, jobId, { store }));
    await sql`create schema migration_import_00000000 create table t (id int)`;
    const [{ name }] = await sql<[{ name: string }]>`select migration_guard.import_schema_name(${jobId}) as name`;
    await sql`select migration_guard.cancel_job(${jobId}, 'alice')`;
    await connect().begin(async (reader) => {
      await reader.unsafe(`select from ${name}.profiles_backup`);
      const begun = Date.now();
      await work(sql);
      expect(Date.now() - begun).toBeLessThan(5000);
      expect(await sql`select to_regnamespace(${name}) is null as gone`).toEqual([{ gone: false }]);
    });
    await work(sql);
    expect(await sql`select to_regnamespace(${name}) is null as gone`).toEqual([{ gone: true }]);
    expect(await sql`select from migration_import_00000000.t`).toHaveLength(0);
  });

  test("goes on where a lost function has left it, and loses one chunk", async ({ example: { sql, connect }, store }) => {
    const { id } = await exportExample(sql, store, { targetBytes: 20_000 });
    const jobId = await takeImport(sql, id, { store });
    const transfer = transferOf(sql, jobId, { store });
    await importStep(transfer);
    await importStep(transfer);
    const lost = connect();
    const [{ pid }] = await lost<[{ pid: number }]>`select pg_backend_pid() as pid`;
    let asked = "";
    const slow: ObjectStore = {
      ...store,
      get: async (name, ...rest) => {
        asked = name;
        // Others go on meanwhile, with what it has not taken.
        expect(await importStep(transfer)).toMatchObject({ bytes: expect.any(Number) });
        await sql`select pg_terminate_backend(${pid}, 5000)`;
        return store.get(name, ...rest);
      },
    };
    await expect(importStep(transferOf(lost, jobId, { store: slow }))).rejects.toThrow();
    expect(await loaded(sql)).toHaveLength(2);
    const again: string[] = [];
    const counting: ObjectStore = { ...store, get: (name, ...rest) => (again.push(name), store.get(name, ...rest)) };
    while (await importStep(transferOf(sql, jobId, { store: counting })) !== "ended");
    expect(again).toContain(asked);
    expect(new Set(again).size).toBe(again.length);
    await work(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
    expect(await failedChecks(sql)).toEqual([]);
  });

  test("is begun by one of those who would at once", async ({ example: { sql, connect }, store }) => {
    const { id } = await exportExample(sql, store);
    const jobId = await takeImport(sql, id, { store });
    const other = connect();
    const slow: ObjectStore = {
      ...store,
      get: async (name, ...rest) => {
        expect(await importStep(transferOf(other, jobId, { store }))).toBe("waiting");
        return store.get(name, ...rest);
      },
    };
    const transfers = [1, 2, 3].map(() => transferOf(connect(), jobId, { store: slow }));
    const outcomes = await Promise.all(transfers.map(importStep));
    expect(outcomes.filter((outcome) => outcome !== "waiting")).toEqual([{ bytes: 0 }]);
    expect((await leftovers(sql)).schemas).toHaveLength(1);
  });

  test("is cancelled while its tables are made, and keeps nobody waiting", async ({ example: { sql, connect }, store }) => {
    const { id } = await exportExample(sql, store);
    const jobId = await takeImport(sql, id, { store });
    const admin = connect("supabase_admin");
    await admin.unsafe(`
      create function public.wait() returns event_trigger language plpgsql as 'begin perform pg_advisory_xact_lock(42); end';
      create event trigger wait on ddl_command_end when tag in ('CREATE TABLE') execute function public.wait()`)
      .simple();
    await admin`select pg_advisory_lock(42)`;
    const step = takeStep(importStep, transferOf(connect(), jobId, { store }));
    await until(async () => (await sql`select from pg_locks where locktype = 'advisory' and not granted`).length === 1);
    await sql`set lock_timeout = '2s'`;
    expect(await sql`select status from migration_guard.cancel_job(${jobId}, 'alice')`).toEqual([{
      status: "cancelled",
    }]);
    await sql`reset lock_timeout`;
    await admin`select pg_advisory_unlock(42)`;
    expect(await step).toBe("ended");
    expect(await lastJob(sql)).toMatchObject({ status: "cancelled", error: { code: "cancelled" } });
    expect(await leftovers(sql)).toEqual(nothing);
    await work(sql);
    expect(await sql`select from migration_guard.import_beginnings`).toHaveLength(0);
  });

  test("is given up when whoever works on it is lost each time", async ({ example: { sql }, store }) => {
    const { id } = await exportExample(sql, store);
    for (const steps of [0, 2]) {
      const jobId = await takeImport(sql, id, { store });
      for (let step = 0; step < steps; step++) await importStep(transferOf(sql, jobId, { store }));
      let begun = 0;
      // As an isolate whose memory was not enough.
      const deadly: ObjectStore = {
        ...store,
        get: () => {
          begun++;
          return Promise.reject(Object.assign(new Error(), { code: "CONNECT_TIMEOUT" }));
        },
      };
      const take = () => takeStep(importStep, transferOf(sql, jobId, { store: deadly }));
      for (let attempt = 0; attempt < 8; attempt++) {
        await sql`update migration_guard.import_beginnings set begun_at = null`;
        await sql`update migration_guard.import_chunks set begun_at = null`;
        await expect(take()).rejects.toThrow();
      }
      expect(begun).toBe(8);
      // Whoever has begun it last may be at it still.
      if (steps === 0) expect(await take()).toBe("waiting");
      await sql`update migration_guard.import_beginnings set begun_at = null`;
      await sql`update migration_guard.import_chunks set begun_at = null`;
      expect(await take()).toBe("ended");
      expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "worker_lost" } });
      await work(sql);
      expect(await leftovers(sql)).toEqual(nothing);
    }
  });

  test("keeps no other job from being run by what cannot be dropped", async ({ example: { sql, connect }, store }) => {
    const { id } = await exportExample(sql, store);
    const jobId = await takeImport(sql, id, { store });
    await importStep(transferOf(sql, jobId, { store }));
    await connect("supabase_admin").unsafe(`
      create function public.refuse() returns event_trigger language plpgsql as $$ begin raise 'nobody drops anything'; end $$;
      create event trigger refuse on sql_drop when tag in ('DROP TABLE', 'DROP SCHEMA') execute function public.refuse()`)
      .simple();
    await sql`select migration_guard.cancel_job(${jobId}, 'alice')`;
    await backUp(sql, "v9", { tables: ["profiles"] });
    expect((await leftovers(sql)).schemas).toHaveLength(2);
    await connect("supabase_admin")`drop event trigger refuse`;
    await work(sql);
    expect((await leftovers(sql)).schemas).toEqual([{ nspname: "migration_backup_v9" }]);
  });

  test("is dropped some tables at a time", async ({ example: { sql }, store }) => {
    const { draft } = await exportExample(sql, store);
    const empty = { columns: [], source: null, rows: 0, checksum: null, chunks: [] };
    draft.manifest.tables.push(...Array.from({ length: 500 }, (_, i) => ({ ...empty, name: `t${i}` })));
    const jobId = await takeImport(sql, draft.manifest.export, { store });
    await sql`select migration_guard.begin_import(${jobId}, ${sql.json(draft.manifest as never)})`;
    await sql`select migration_guard.cancel_job(${jobId}, 'alice')`;
    const left: number[] = [];
    do {
      await sql`select migration_guard.drop_leftover_imports()`;
      const [{ count }] = await sql<[{ count: number }]>`
        select count(*)::int from pg_class where relkind = 'r' and relnamespace::regnamespace::text ~ '^migration_import_'`;
      left.push(count);
    } while (left.at(-1)! > 0);
    const tables = draft.manifest.tables.length;
    expect(left).toEqual([tables - 200, tables - 400, 0]);
    expect(await leftovers(sql)).toEqual(nothing);
  });

  test("and another of the same backup, into another version, make one backup, where the database has not known it", async ({ example: { sql, connect }, store }) => {
    const { id } = await exportExample(sql, store);
    await sql`truncate migration_guard.backups cascade`;
    for (const version of ["v10", "v11"]) {
      const jobId = await takeImport(sql, id, { store, version });
      while (await importStep(transferOf(sql, jobId, { store })) !== "ended");
    }
    const waiting = (count: number) =>
      until(async () => {
        const sessions = await sql`
          select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
        return sessions.length === count;
      });
    // The first has registered the backup, and goes no further.
    const gate = connect();
    await gate`begin`;
    await gate`lock table migration_guard.exports in share mode`;
    const first = work(connect());
    await waiting(1);
    const second = work(connect());
    await waiting(2);
    await gate`commit`;
    await Promise.all([first, second]);
    const jobs =
      await sql`select version, status, error from migration_guard.jobs where kind = 'import' order by number`;
    expect([...jobs]).toMatchObject([
      { version: "v10.0", status: "succeeded", error: null },
      {
        version: "v11.0",
        status: "failed",
        error: { code: "backup_exists", message: expect.stringContaining("as that of v10.0") },
      },
    ]);
    expect(await failedChecks(sql)).toEqual([]);
    await work(sql);
    expect(await leftovers(sql)).toMatchObject({ schemas: [{ nspname: schema }], backups: [{}], chunks: [] });
  });

  test("leaves a schema alone that has taken its name meanwhile, and says whose that is not", async ({ example: { sql }, store }) => {
    const { id } = await exportExample(sql, store);
    const jobId = await takeImport(sql, id, { store });
    while (await importStep(transferOf(sql, jobId, { store })) !== "ended");
    await sql.unsafe(`create schema ${schema} create table mine (id int)`);
    await work(sql);
    expect(await lastJob(sql)).toMatchObject({
      status: "failed",
      error: {
        code: "backup_exists",
        message: expect.stringMatching(/is no registered backup: .* drop it or rename it/),
      },
    });
    expect(await sql`select relname from pg_class where relnamespace = ${schema}::regnamespace`).toEqual([
      { relname: "mine" },
    ]);
  });

  test("is shared by several functions, and ends once", async ({ example: { sql, connect }, store }) => {
    const { id } = await exportExample(sql, store, { targetBytes: 10_000 });
    const jobId = await takeImport(sql, id, { store });
    const outcomes = await Promise.all([1, 2, 3].map(async () => {
      const transfer = transferOf(connect(), jobId, { store });
      let bytes = 0;
      for (;;) {
        const outcome = await importStep(transfer);
        if (outcome === "ended") return bytes;
        if (outcome !== "waiting") bytes += outcome.bytes;
      }
    }));
    const [progress] = await sql`
      select p.done::int, p.total::int from migration_guard.jobs as j, migration_guard.import_progress(j) as p where j.id = ${jobId}`;
    const bytes = outcomes.reduce((sum, bytes) => sum + bytes);
    expect(progress).toEqual({ done: bytes, total: bytes });
    expect(await sql`select status, run_by from migration_guard.jobs where id = ${jobId}`)
      .toEqual([{ status: "queued", run_by: "worker" }]);
    await work(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
  });

  test("is refused at once where it cannot be", async ({ example: { sql }, store }) => {
    const { id } = await exportExample(sql, store);
    const ask = (export_: string, version = "v10", target = "offsite", manifest: string | null = null) =>
      sql`select migration_guard.enqueue_import(${export_}, ${version}, ${target}, ${manifest}, 'default')`;
    for (const wrong of ["", "../x", `${id}/`, `${id}\n`, "v10", id.toUpperCase()]) {
      await expect(ask(wrong)).rejects.toMatchObject({ code: "MG003" });
    }
    await expect(ask(id, "v10", "../x")).rejects.toMatchObject({ code: "MG003" });
    await expect(ask(id, "v10", "offsite", "x")).rejects.toMatchObject({ code: "MG003" });
    await expect(ask(id, "ten")).rejects.toMatchObject({ code: "MG001" });
    await ask(id);
    await expect(ask(id)).rejects.toMatchObject({ code: "MG010" });
    await sql`delete from migration_guard.jobs where status = 'queued'`;
    await backUp(sql, "v10", examplePlan);
    await expect(ask(id)).rejects.toMatchObject({
      code: "MG009",
      message: expect.stringContaining("import into another version, or clean that backup up"),
    });
    await sql`create schema migration_backup_v11`;
    await expect(ask(id, "v11")).rejects.toMatchObject({
      code: "MG009",
      message: expect.stringMatching(/^The schema migration_backup_v11 is there, and is no registered backup: /),
    });
  });
});
