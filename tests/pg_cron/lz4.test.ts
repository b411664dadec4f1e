import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { connect, createPlatformRoles, createPlatformSchemas, pushMigrations } from "../../local/database.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { removeData, startPostgres } from "../../local/postgres.ts";
import { backUp, lastJob, work } from "../support/backup.ts";
import { debianBinaries } from "../support/debian-binaries.ts";
import { prepareKeys } from "../support/prepare-keys.ts";
import { rollBack } from "../support/rollback.ts";

test("large values that a table stores uncompressed are copied with lz4, and come back uncompressed", async ({ onTestFinished, skip }) => {
  const binaries = debianBinaries();
  if (!binaries) {
    skip("The Postgres of the other tests has no lz4, and Debian's is not installed: apt-get install postgresql-15");
  }
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-lz4-"));
  const port = await freePort();
  const server = await startPostgres({
    dataDirectory: join(folder, "postgres"),
    port,
    binaries,
    settings: { fsync: "off" },
  });
  const sql = connect({ port });
  onTestFinished(async () => {
    await sql.end();
    await server.stop();
    removeData(join(folder, "postgres"));
    rmSync(folder, { recursive: true, force: true });
  });
  await createPlatformRoles(port);
  await createPlatformSchemas({ port, database: "postgres" });
  await pushMigrations({ port, database: "postgres" });
  await prepareKeys({ port, database: "postgres" });
  await sql.unsafe(`
    create table public.documents (id int primary key, plain text, packed text compression pglz);
    alter table public.documents alter column plain set storage external;
    insert into public.documents select n, repeat('word ' || n, 4000), repeat('word ' || n, 4000) from generate_series(1, 20) as n`)
    .simple();
  const methods = (table: string) =>
    sql.unsafe(
      `select distinct pg_column_compression(plain) as plain, pg_column_compression(packed) as packed from ${table}`,
    );
  const live = [{ plain: null, packed: "pglz" }];
  expect([...await methods("public.documents")]).toEqual(live);

  const session = await sql`show default_toast_compression`;
  await backUp(sql, "v10", { tables: ["documents"] });
  // What was compressed is copied as it is.
  expect([...await methods("migration_backup_v10.documents_backup")]).toEqual([{ plain: "lz4", packed: "pglz" }]);
  expect(await sql`show default_toast_compression`).toEqual(session);

  await sql`delete from public.documents where id > 5`;
  await rollBack(sql, "v10", { data: "restore" });
  await sql`select migration_guard.enqueue_diff('v10', 'test', exact => true)`;
  await work(sql);
  expect(await lastJob(sql)).toMatchObject({ result: { is_clean: true } });
  expect([...await sql`select count(*)::int as rows, max(length(plain)) as longest from public.documents`])
    .toEqual([{ rows: 20, longest: 6 * 4000 + 4000 }]);
});
