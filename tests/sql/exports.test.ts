import { setTimeout as sleep } from "node:timers/promises";
import { generateIdentity, identityToRecipient } from "age-encryption";
import type postgres from "postgres";
import { afterAll, afterEach, beforeAll, describe, expect } from "vitest";
import { readEnvironment } from "../../supabase/functions/migration-guard/environment.ts";
import { exportStep } from "../../supabase/functions/migration-guard/exports/export-step.ts";
import type { ObjectStore } from "../../supabase/functions/migration-guard/exports/object-store.ts";
import { openStore } from "../../supabase/functions/migration-guard/exports/open-store.ts";
import { removeStep } from "../../supabase/functions/migration-guard/exports/remove-step.ts";
import type { StepOutcome, Transfer } from "../../supabase/functions/migration-guard/exports/transfer.ts";
import { workOnTransfers } from "../../supabase/functions/migration-guard/exports/work-on-transfers.ts";
import { backUp, lastJob, type Plan, work } from "../support/backup.ts";
import { blocked, deleteBackup, type Guard, makeRemovable, planCleanup } from "../support/cleanup.ts";
import { test } from "../support/database.ts";
import { examplePlan } from "../support/example.ts";
import { tryImport } from "../support/import.ts";
import { rollBack } from "../support/rollback.ts";
import { type S3, startS3 } from "../support/s3.ts";
import { until } from "../support/until.ts";

let s3: S3;
let store: ObjectStore;

const environmentOf = (targets: Record<string, unknown>, identities = "") => {
  const variables: Record<string, string> = {
    SUPABASE_URL: "https://project.supabase.co",
    SUPABASE_DB_URL: "postgresql://postgres@db.project.supabase.co/postgres",
    EXPORT_TARGETS: JSON.stringify(targets),
    EXPORT_AGE_IDENTITIES: identities,
  };
  return readEnvironment((name) => variables[name]);
};
const offsite = () => ({
  offsite: {
    endpoint: s3.target.endpoint,
    region: s3.target.region,
    bucket: s3.target.bucket,
    access_key_id: s3.target.accessKeyId,
    secret_access_key: s3.target.secretAccessKey,
  },
});

beforeAll(async () => {
  s3 = await startS3();
  store = (await openStore("offsite", environmentOf(offsite()), { maxAttempts: 2, pause: 10 }))!;
});
afterEach(() => s3.mend());
afterAll(() => s3?.stop());

/** Names of all objects in a folder of the bucket. */
async function objectsOf(id: string): Promise<string[]> {
  s3.open("list");
  const answer = await fetch(`${s3.url}/exports?list-type=2&max-keys=1000&prefix=${id}/`);
  const text = await answer.text();
  s3.open("nothing");
  return [...text.matchAll(/<Key>[^<]*?\/([^<]*)<\/Key>/g)].map(([, name]) => name!).sort();
}

/** A table of many pages, whose export has as many chunks. */
async function backUpMany(sql: postgres.Sql, plan: Plan = {}): Promise<void> {
  await sql`create table public.many as select i, repeat(md5(i::text), 20) as text from generate_series(1, 500) as i`;
  await backUp(sql, "v1", { tables: ["many"], ...plan });
  await smallChunks(sql);
}

const smallChunks = (sql: postgres.Sql) =>
  sql`create or replace function migration_guard.chunk_bytes() returns bigint language sql immutable
    set search_path = pg_catalog, pg_temp as 'select 20000::bigint'`;

type Asked = { id: string; job: string };

const lastAsked = async (sql: postgres.Sql): Promise<Asked> =>
  (await sql<[Asked]>`
    select j.id as job, j.parameters ->> 'export' as id from migration_guard.jobs as j order by j.number desc limit 1`)[
    0
  ];

/** Asks for an export, and has its chunks planned. */
async function beginExport(sql: postgres.Sql, version = "v1", recipients: string[] = []): Promise<Asked> {
  await sql`select migration_guard_api.create_export(${version}, 'offsite', ${recipients}, 'alice')`;
  await work(sql);
  return lastAsked(sql);
}

async function resume(sql: postgres.Sql, id: string): Promise<Asked> {
  await sql`select migration_guard_api.resume_export(${id}, 'alice')`;
  await work(sql);
  return lastAsked(sql);
}

async function askForVerification(sql: postgres.Sql, id: string, storedOnly = false): Promise<void> {
  await sql`select migration_guard_api.verify_export(${id}, ${storedOnly}, 'alice')`;
}

/** Does what the function does with all that it has to do. */
async function transferAll(sql: postgres.Sql, targets: Record<string, unknown> = offsite(), identities = "") {
  const options = { environment: environmentOf(targets, identities), callAgain: () => Promise.resolve(false) };
  while (await workOnTransfers(sql, options)) await work(sql);
}

/** An export that is whole. */
async function makeExport(sql: postgres.Sql, version = "v1", recipients: string[] = []): Promise<string> {
  const { id } = await beginExport(sql, version, recipients);
  await transferAll(sql);
  expect((await lastJob(sql)).error).toBeNull();
  return id;
}

async function verifyExport(sql: postgres.Sql, id: string, storedOnly = false, identities = "") {
  await askForVerification(sql, id, storedOnly);
  await transferAll(sql, offsite(), identities);
  return lastJob(sql);
}

const makeVerified = async (sql: postgres.Sql, version = "v1") => {
  const id = await makeExport(sql, version);
  expect((await verifyExport(sql, id)).error).toBeNull();
  return id;
};

/** Has one isolate take steps and, between them, the worker do its part, until the job has ended. */
async function isolate(
  step: (transfer: Transfer) => Promise<StepOutcome>,
  sql: postgres.Sql,
  jobId: string,
  its: ObjectStore = store,
): Promise<void> {
  await sql`select migration_guard.take_transfers()`;
  for (;;) {
    const outcome = await step({ sql, jobId, openStore: () => Promise.resolve(its), identities: [] });
    if (outcome === "ended") {
      await work(sql);
      await sql`select migration_guard.take_transfers()`;
      const [{ is_finished }] = await sql<[{ is_finished: boolean }]>`
        select finished_at is not null as is_finished from migration_guard.jobs where id = ${jobId}`;
      if (is_finished) return;
    }
    if (typeof outcome === "string") await sleep(20);
  }
}

/** A store in which the upload of what is named like this waits. */
function holding(pattern: RegExp) {
  const isHeld = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const held: ObjectStore = {
    ...store,
    put: async (name, body) => {
      if (pattern.test(name)) {
        isHeld.resolve();
        await gate.promise;
      }
      await store.put(name, body);
    },
  };
  return { store: held, isHeld: isHeld.promise, release: gate.resolve };
}

type Chunk = { number: number; table_name: string; attempts: number; object: string | null; is_done: boolean };
const chunksOf = async (sql: postgres.Sql, id: string): Promise<Chunk[]> => [
  ...await sql<Chunk[]>`
    select number, table_name, attempts, object, done_at is not null as is_done from migration_guard.export_chunks
    where export_id = ${id} order by number`,
];
const exportOf = async (sql: postgres.Sql, id: string) =>
  (await sql`select * from migration_guard_api.get_export(${id})`)[0]!;
const pidOf = async (sql: postgres.Sql) => (await sql<[{ pid: number }]>`select pg_backend_pid() as pid`)[0].pid;

/** Everything is there once, and passes. */
async function expectWhole(sql: postgres.Sql, id: string): Promise<void> {
  const chunks = await chunksOf(sql, id);
  expect(chunks.filter(({ is_done }) => !is_done)).toEqual([]);
  expect(await exportOf(sql, id)).toMatchObject({
    state: "complete",
    chunks: chunks.length,
    chunks_done: chunks.length,
  });
  expect((await verifyExport(sql, id)).error).toBeNull();
  expect(await exportOf(sql, id)).toMatchObject({ verified_ok: true });
  const text = new TextDecoder().decode(await store.get(`${id}/SHA256SUMS`, 1_000_000));
  const named = text.trimEnd().split("\n").map((line) => line.slice(66));
  expect(named.sort()).toEqual(["manifest.json", "restore.sql", ...chunks.map(({ object }) => object)].sort());
}

describe("isolates side by side", () => {
  test("share the chunks of an export, and store each once", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const { id, job } = await beginExport(sql);
    const before = s3.requests.length;
    await Promise.all([connect(), connect(), connect()].map((connection) => isolate(exportStep, connection, job)));
    const chunks = await chunksOf(sql, id);
    expect(chunks.length).toBeGreaterThan(10);
    expect(chunks.filter(({ attempts }) => attempts !== 1)).toEqual([]);
    const puts = s3.requests.slice(before).filter(({ method }) => method === "PUT").map(({ path }) => path);
    expect(new Set(puts).size).toBe(puts.length);
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
    await expectWhole(sql, id);
    expect((await objectsOf(id)).length).toBe(chunks.length + 3);
  });

  test("lose the chunk of one whose connection is killed, and no other", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const { id, job } = await beginExport(sql);
    const { store: slow, isHeld, release } = holding(/data\/000007-1/);
    const [victim, other] = [connect(), connect()];
    const pid = await pidOf(victim);
    const killed = expect(isolate(exportStep, victim, job, slow)).rejects.toThrow();
    await isHeld;
    await sql`select pg_terminate_backend(${pid}, 5000)`;
    await killed;
    // As the worker does with a connection that has failed: it would be opened anew, for statements without their transaction.
    await victim.end({ timeout: 0 });
    await isolate(exportStep, other, job);
    // What was given up arrives after all.
    release();
    await until(async () => (await objectsOf(id)).includes("data/000007-1.copy.gz"));
    expect((await chunksOf(sql, id)).filter(({ attempts }) => attempts !== 1)).toMatchObject([
      { number: 7, attempts: 2, object: "data/000007-2.copy.gz" },
    ]);
    await expectWhole(sql, id);
    await until(async () =>
      (await objectsOf(id)).includes("data/000007-1.copy.gz") || (await objectsOf(id)).length > 0
    );
  });

  test("take over from one that is lost while they wait for it", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const { id, job } = await beginExport(sql);
    const { store: slow, isHeld } = holding(/data\/000000-1/);
    const victim = connect();
    const pid = await pidOf(victim);
    isolate(exportStep, victim, job, slow).catch(() => {});
    await isHeld;
    const others = transferAll(connect());
    await until(async () => (await chunksOf(sql, id)).filter(({ is_done }) => !is_done).length === 1);
    await sql`select pg_terminate_backend(${pid}, 5000)`;
    await others;
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", error: null });
    await expectWhole(sql, id);
  });

  test("give a chunk up that none of them survives", async ({ database: { sql } }) => {
    await backUpMany(sql);
    const { id } = await beginExport(sql);
    await sql`update migration_guard.export_chunks set attempts = 8 where number = 3`;
    await transferAll(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "worker_lost", export: id } });
    // Who asks again has it tried as often again.
    await resume(sql, id);
    await transferAll(sql);
    await expectWhole(sql, id);
  });

  test("read one back together", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const id = await makeExport(sql);
    await askForVerification(sql, id);
    const before = s3.requests.length;
    await Promise.all([1, 2, 3].map(() => transferAll(connect())));
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", result: { ok: true } });
    const reads = s3.requests.slice(before).filter(({ method, path, headers }) =>
      method === "GET" && headers.authorization && !path.includes("probe")
    );
    expect(reads).toHaveLength((await objectsOf(id)).length);
  });
});

describe("a cancel midway", () => {
  test("ends the job at once, and the export goes on after its last good chunk when it is resumed", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const { id, job } = await beginExport(sql);
    const { store: slow, isHeld, release } = holding(/data\/000005-1/);
    const isolates = [
      isolate(exportStep, connect(), job, { ...slow, put: (...args) => sleep(5).then(() => slow.put(...args)) }),
    ];
    await isHeld;
    await sql`select migration_guard_api.cancel_job(${job}, 'alice')`;
    expect(await lastJob(sql)).toMatchObject({ status: "cancelled", error: { code: "cancelled", export: id } });
    expect((await lastJob(sql)).error!.message).not.toContain("Nothing was changed");
    release();
    await Promise.all(isolates);
    const done = (await chunksOf(sql, id)).filter(({ is_done }) => is_done);
    expect(done.map(({ number }) => number)).toEqual([0, 1, 2, 3, 4]);
    expect(await exportOf(sql, id)).toMatchObject({ state: "writing", chunks_done: 5, objects: 5, sums_sha256: null });

    const { job: second } = await resume(sql, id);
    const before = s3.requests.length;
    await isolate(exportStep, connect(), second);
    const paths = s3.requests.slice(before).map(({ path }) => path);
    for (const { object } of done) expect(paths.filter((path) => path.endsWith(object!))).toEqual([]);
    expect((await chunksOf(sql, id)).slice(0, 5)).toEqual(done);
    await expectWhole(sql, id);
  });

  test("leaves a chunk to whoever resumes the export, also while somebody still writes it for the job that was cancelled", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const { id, job } = await beginExport(sql);
    const { store: slow, isHeld, release } = holding(/data\/000005-1/);
    const late = isolate(exportStep, connect(), job, slow);
    await isHeld;
    await sql`select migration_guard_api.cancel_job(${job}, 'alice')`;
    const { job: second } = await resume(sql, id);
    const resumed = isolate(exportStep, connect(), second);
    await until(async () => (await chunksOf(sql, id)).filter(({ is_done }) => !is_done).length === 1);
    release();
    await Promise.all([late, resumed]);
    expect((await chunksOf(sql, id))[5]).toMatchObject({ attempts: 2, object: "data/000005-2.copy.gz" });
    await expectWhole(sql, id);
  });

  test("of a removal leaves what can be removed by another request, and counts for nothing", async ({ example: { sql } }) => {
    const id = await makeOld(sql, { require_export: true });
    await makeVerified(sql, "v10");
    await askForRemoval(sql, id);
    const { job } = await lastAsked(sql);
    await sql`select migration_guard.take_transfers()`;
    await sql`select migration_guard.begin_removal(${job})`;
    await sql`select migration_guard_api.cancel_job(${job}, 'alice')`;
    expect(await lastJob(sql)).toMatchObject({ status: "cancelled", error: { code: "cancelled" } });
    await expect(sql`select migration_guard_api.resume_export(${id}, 'alice')`).rejects.toMatchObject({
      code: "MG046",
    });
    expect(await exportOf(sql, id)).toMatchObject({ state: "removing", verified_ok: null });
    await removeExport(sql, id);
    expect(await objectsOf(id)).toEqual([]);
  });

  test("while it is being finished leaves it unfinished, and not half recorded", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const { id, job } = await beginExport(sql);
    const { store: slow, isHeld, release } = holding(/SHA256SUMS/);
    const running = isolate(exportStep, connect(), job, slow);
    await isHeld;
    await sql`select migration_guard_api.cancel_job(${job}, 'alice')`;
    release();
    await expect(running).rejects.toMatchObject({ code: "MG025" });
    expect(await exportOf(sql, id)).toMatchObject({ state: "writing", finished_at: null });
    const { job: second } = await resume(sql, id);
    await isolate(exportStep, connect(), second);
    await expectWhole(sql, id);
  });

  test("of an encrypted export's end is made good, whose files are others each time", async ({ database: { sql } }) => {
    const identity = await generateIdentity();
    await backUpMany(sql);
    const { id, job } = await beginExport(sql, "v1", [await identityToRecipient(identity)]);
    const failing: ObjectStore = {
      ...store,
      put: (name, body) => /SHA256SUMS/.test(name) ? Promise.reject(new Error("lost")) : store.put(name, body),
    };
    await expect(isolate(exportStep, sql, job, failing)).rejects.toThrow("lost");
    const left = await store.get(`${id}/manifest.json.age`, 1_000_000);
    await isolate(exportStep, sql, job);
    expect(await store.get(`${id}/manifest.json.age`, 1_000_000)).not.toEqual(left);
    expect((await verifyExport(sql, id, false, identity)).error).toBeNull();
  });

  test("leaves nothing behind that a removal would not remove", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const { id, job } = await beginExport(sql);
    const { store: slow, isHeld, release } = holding(/data\/000003-1/);
    const late = isolate(exportStep, connect(), job, slow);
    await isHeld;
    await sql`select migration_guard_api.cancel_job(${job}, 'alice')`;
    await askForRemoval(sql, id);
    const removal = await lastAsked(sql);
    await sql`select migration_guard.take_transfers()`;
    const transfer = { sql, jobId: removal.job, openStore: () => Promise.resolve(store), identities: [] };
    // The upload is under way still.
    expect(await removeStep(transfer)).toBe("waiting");
    expect(await exportOf(sql, id)).toMatchObject({ state: "writing" });
    release();
    await late;
    await isolate(removeStep, sql, removal.job);
    expect(await exportOf(sql, id)).toMatchObject({ state: "removed", removed_by: "alice" });
    expect(await objectsOf(id)).toEqual([]);
  });
});

describe("a chunk whose text is longer than expected", () => {
  /** Ten million bytes of text each, in one page. */
  async function backUpLong(sql: postgres.Sql, rows: number, length = 10_000_000) {
    await sql`create table public.long as select i, repeat('x', ${length}::int) as text from generate_series(1, ${rows}::int) as i`;
    await backUp(sql, "v1", { tables: ["long"] });
  }

  test("is split, also within a page", async ({ database: { sql } }) => {
    await backUpLong(sql, 6);
    const id = await makeExport(sql);
    const chunks = await sql`
      select (record ->> 'rows')::int as rows from migration_guard.export_chunks
      where export_id = ${id} and table_name = 'long_backup' order by number`;
    expect(chunks.map(({ rows }) => rows)).toEqual([1, 1, 2, 2]);
    expect(Number((await exportOf(sql, id)).rows)).toBeGreaterThan(6);
    await expectWhole(sql, id);
  });

  test("is split once, when two have found it too long at the same time", async ({ database: { sql, connect } }) => {
    await backUpLong(sql, 2, 30_000_000);
    const { id, job } = await beginExport(sql);
    const [{ number }] = await sql<[{ number: number }]>`
      update migration_guard.export_chunks set attempts = 2 where table_name = 'long_backup' returning number`;
    await sql`select migration_guard.take_transfers()`;
    // The first was too slow to say so; the second split it.
    await sql`select migration_guard.split_export_chunk(${job}, ${number}, 2)`;
    await sql`update migration_guard.export_chunks set attempts = 3 where number = ${number}`;
    await sql`select migration_guard.split_export_chunk(${job}, ${number}, 1)`;
    await sql`select migration_guard.split_export_chunk(${job}, ${number}, 2)`;
    await Promise.all([connect(), connect()].map((connection) => isolate(exportStep, connection, job)));
    expect((await chunksOf(sql, id)).filter(({ table_name }) => table_name === "long_backup")).toHaveLength(2);
    await expectWhole(sql, id);
  });

  test("and is a single row is stored nevertheless, while that fits into the memory", async ({ database: { sql } }) => {
    await backUpLong(sql, 1, 30_000_000);
    await expectWhole(sql, await makeExport(sql));
  });

  test("and has a single row fails the export", async ({ database: { sql } }) => {
    await backUpLong(sql, 1, 51_000_000);
    const { id } = await beginExport(sql);
    await transferAll(sql);
    const { error } = await lastJob(sql);
    expect(error).toMatchObject({ code: "row_too_large", message: expect.stringContaining("long_backup"), export: id });
    expect(await exportOf(sql, id)).toMatchObject({ state: "writing" });
  });

  test("may be split more often than one may be lost", async ({ database: { sql } }) => {
    await sql`create table public.long as select i, repeat('x', 100000) as text from generate_series(1, 600) as i`;
    await backUp(sql, "v1", { tables: ["long"] });
    const { id } = await beginExport(sql);
    await sql`update migration_guard.export_chunks set attempts = 9, splits = 9 where table_name = 'long_backup'`;
    await transferAll(sql);
    await expectWhole(sql, id);
  });
});

describe("a backup that does not stay as it was", () => {
  const rewrites: [title: string, statement: string][] = [
    ["vacuum full", "vacuum full migration_backup_v1.many_backup"],
    [
      "cluster",
      "create index on migration_backup_v1.many_backup (i); cluster migration_backup_v1.many_backup using many_backup_i_idx",
    ],
    ["truncate", "truncate migration_backup_v1.many_backup"],
    ["drop", "drop table migration_backup_v1.many_backup"],
  ];
  test.for(rewrites)(
    "%s after the planning fails the export, and nothing is finished",
    async ([, statement], { database: { sql } }) => {
      await backUpMany(sql);
      const { id } = await beginExport(sql);
      for (const one of statement.split("; ")) await sql.unsafe(one);
      await transferAll(sql);
      expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "backup_damaged", export: id } });
      expect(await exportOf(sql, id)).toMatchObject({ state: "writing", finished_at: null, sums_sha256: null });
      expect((await objectsOf(id)).filter((name) => !name.startsWith("data/"))).toEqual([]);
      await expect(askForVerification(sql, id)).rejects.toMatchObject({ code: "MG046" });
      await resume(sql, id);
      await transferAll(sql);
      expect((await lastJob(sql)).status).toBe("failed");
    },
  );

  test.for([
    ["a table", "drop table migration_backup_v1.many_backup", "backup_damaged"],
    ["a table under its name", "alter table migration_backup_v1.many_backup rename to other", "backup_damaged"],
    ["a function", "drop function migration_backup_v1.verify_backup_integrity()", "backup_damaged"],
    ["all", "drop schema migration_backup_v1 cascade", "backup_not_found"],
  ])("one that lacks %s is not exported as if it were whole", async ([, statement, code], { database: { sql } }) => {
    await backUpMany(sql);
    await sql`select migration_guard_api.create_export('v1', 'offsite', '{}', 'alice')`;
    await sql.unsafe(statement!);
    await work(sql);
    await transferAll(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code } });
  });

  test("rows that are missing are found before an export is finished", async ({ database: { sql } }) => {
    await backUpMany(sql);
    const { id } = await beginExport(sql);
    await sql`delete from migration_guard.export_chunks where export_id = ${id} and number = 3`;
    await transferAll(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "copy_differs" } });
    expect(await exportOf(sql, id)).toMatchObject({ state: "writing" });
  });

  test("rows that were changed in it make no export, also when that happens while it is read", async ({ database: { sql } }) => {
    await backUpMany(sql);
    await sql`update migration_backup_v1.many_backup set i = -i where i = 250`;
    await beginExport(sql);
    await transferAll(sql);
    const error = { code: "backup_damaged", message: expect.stringContaining("public.many") };
    expect(await lastJob(sql)).toMatchObject({ status: "failed", error });
    await sql`update migration_backup_v1.many_backup set i = -i where i = -250`;
    const { id, job } = await beginExport(sql);
    await sql`select migration_guard.take_transfers()`;
    const transfer = { sql, jobId: job, openStore: () => Promise.resolve(store), identities: [] };
    for (let step = 0; step < 5; step++) await exportStep(transfer);
    await sql`update migration_backup_v1.many_backup set i = -i where i = 1`;
    await transferAll(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "failed", error });
    expect(await exportOf(sql, id)).toMatchObject({ state: "writing" });
  });

  test("one that was dropped while it was exported ends the export, which can be removed", async ({ database: { sql } }) => {
    await backUpMany(sql);
    const { id } = await beginExport(sql);
    await sql`drop schema migration_backup_v1 cascade`;
    await transferAll(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "backup_damaged" } });
    await expect(sql`select migration_guard_api.create_export('v1', 'offsite', '{}', 'alice')`).rejects.toMatchObject({
      code: "MG019",
    });
    await removeExport(sql, id);
    expect(await objectsOf(id)).toEqual([]);
  });

  test("since a rollback has kept rows in it is exported without these, also where that came between two chunks, and imported", async ({ example: { sql } }) => {
    await backUp(sql, "v10", examplePlan);
    const { id: first, job } = await beginExport(sql, "v10");
    await sql`select migration_guard.take_transfers()`;
    await exportStep({ sql, jobId: job, openStore: () => Promise.resolve(store), identities: [] });
    await sql`update public.profiles set name = name || '!'`;
    const { result } = await rollBack(sql, "v10", { data: "restore" });
    expect(Object.keys(result.discarded as object)).toEqual([expect.stringContaining("profiles_discarded")]);
    await transferAll(sql);
    await expectWhole(sql, first);
    const second = await makeExport(sql, "v10");
    await expectWhole(sql, second);
    for (const id of [first, second]) {
      const manifest = JSON.parse(new TextDecoder().decode(await store.get(`${id}/manifest.json`, 10_000_000)));
      const named = [...manifest.tables.map(({ name }: { name: string }) => name), ...await chunksOf(sql, id)];
      expect(named.length, id).toBeGreaterThan(8);
      expect(JSON.stringify(named), id).not.toContain("discarded");
      await sql`drop schema migration_backup_v10 cascade`;
      expect(await tryImport(sql, id, { store }), id).toMatchObject({ status: "succeeded", error: null });
    }
  });

  test("is not cleaned up while it is exported", async ({ example: { sql } }) => {
    await makeRemovable(sql);
    await beginExport(sql, "v10");
    expect(blocked((await planCleanup(sql)).guards)).toEqual(["no_job_under_way"]);
    await expect(deleteBackup(sql, (await planCleanup(sql)).token)).rejects.toMatchObject({ code: "MG013" });
    await transferAll(sql);
    expect(blocked((await planCleanup(sql)).guards)).toEqual([]);
  });

  test("in the trash is exported no further, and goes on when it is back", async ({ example: { sql } }) => {
    await makeRemovable(sql, "v10", { trash_hours: 24 });
    const { id, job } = await beginExport(sql, "v10");
    await sql`select migration_guard_api.cancel_job(${job}, 'alice')`;
    await deleteBackup(sql, (await planCleanup(sql)).token);
    await work(sql);
    await resume(sql, id);
    expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "backup_not_found" } });
    await sql`select migration_guard_api.restore_from_trash('v10', 'alice')`;
    await resume(sql, id);
    await transferAll(sql);
    await expectWhole(sql, id);
  });

  test("is exported twice at once, each whole", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const first = await beginExport(sql);
    const second = await beginExport(sql);
    expect(second.id).not.toBe(first.id);
    await Promise.all([transferAll(connect()), transferAll(connect())]);
    await until(async () => {
      await transferAll(sql);
      return (await sql`select from migration_guard.jobs where finished_at is null`).length === 0;
    });
    await expectWhole(sql, first.id);
    await expectWhole(sql, second.id);
    const sums = async (id: string) => (await exportOf(sql, id)).sums_sha256;
    expect(await sums(first.id)).not.toBe(await sums(second.id));
  });
});

type RemovalPlan = { guards: Guard[]; token: string; two_keys: boolean };
const planRemoval = async (sql: postgres.Sql, id: string, actor = "alice") =>
  (await sql<[RemovalPlan]>`select * from migration_guard_api.plan_export_removal(${id}, ${actor})`)[0];
const deleteExport = (
  sql: postgres.Sql,
  id: string,
  token: string | null,
  { confirm = id as string | null, actor = "alice", override = null as unknown } = {},
) =>
  sql`select * from migration_guard_api.delete_export(${id}, ${confirm}, ${token}, ${actor}, null, null, ${
    sql.json(override as never)
  })`;
async function askForRemoval(sql: postgres.Sql, id: string): Promise<void> {
  await deleteExport(sql, id, (await planRemoval(sql, id)).token);
}
async function removeExport(sql: postgres.Sql, id: string): Promise<void> {
  await askForRemoval(sql, id);
  await transferAll(sql);
  expect((await lastJob(sql)).error).toBeNull();
  expect(await exportOf(sql, id)).toMatchObject({ state: "removed" });
}

/** The guards that a request is refused for. */
async function refusedFor(request: Promise<unknown>): Promise<string[]> {
  const error = await request.then(() => undefined, (error) => error);
  expect(error).toMatchObject({ code: "MG013" });
  return blocked(JSON.parse(error.detail).guards);
}

/** Backs up a table, signs the migration off long ago, and exports it: then it may be removed. */
async function makeOld(sql: postgres.Sql, plan: Plan = {}): Promise<string> {
  await makeRemovable(sql, "v10", plan);
  return await makeVerified(sql, "v10");
}

describe("the removal of an export", () => {
  test("leaves no object of it, those of tries that were given up included, and others alone", async ({ example: { sql } }) => {
    const id = await makeOld(sql);
    const other = await makeExport(sql, "v10");
    const kept = await objectsOf(other);
    await sql`update migration_guard.export_chunks set attempts = 3 where export_id = ${id} and number = 1`;
    await store.put(`${id}/data/000001-2.copy.gz`, new Uint8Array(3));
    await store.put(`${id}/data/000001-3.copy.gz`, new Uint8Array(3));
    await removeExport(sql, id);
    expect(await objectsOf(id)).toEqual([]);
    expect(await objectsOf(other)).toEqual(kept);
    await expect(askForVerification(sql, id)).rejects.toMatchObject({ code: "MG046" });
    await expect(sql`select migration_guard_api.resume_export(${id}, 'alice')`).rejects.toMatchObject({
      code: "MG046",
    });
    expect(await refusedFor(askForRemoval(sql, id))).toContain("export_is_there");
    expect(await sql`select id, state from migration_guard_api.list_exports('v10')`).toContainEqual({
      id,
      state: "removed",
    });
  });

  test("waits for the sign-off and the retention, unless an admin overrides that with a reason", async ({ example: { sql } }) => {
    await backUp(sql, "v10", examplePlan);
    const id = await makeVerified(sql, "v10");
    expect(await refusedFor(askForRemoval(sql, id))).toEqual(["migration_confirmed", "retention_passed"]);
    await sql`select migration_guard_api.confirm_backup('v10', 'All green.', 'alice')`;
    expect(await refusedFor(askForRemoval(sql, id))).toEqual(["retention_passed"]);
    const { token } = await planRemoval(sql, id);
    const reason = "The customer asked for erasure.";
    for (
      const override of [{ guard: "migration_confirmed", reason }, { guard: "export_verified", reason }, {
        guard: "not_required",
        reason,
      }, { guard: "retention_passed", reason: "no" }]
    ) {
      await expect(deleteExport(sql, id, token, { override })).rejects.toMatchObject({ code: "MG003" });
    }
    await deleteExport(sql, id, token, { override: { guard: "retention_passed", reason } });
    await transferAll(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", result: { removed: true } });
    expect(
      await sql`select parameters from migration_guard.audit_log where action = 'export.remove' order by id desc limit 1`,
    )
      .toMatchObject([{ parameters: { export: id, override: { guard: "retention_passed", reason } } }]);
    expect(await objectsOf(id)).toEqual([]);
  });

  test("of a backup that was dropped by hand, unsigned, and forgotten, is refused", async ({ example: { sql } }) => {
    await backUp(sql, "v10", examplePlan);
    const id = await makeVerified(sql, "v10");
    await sql`drop schema migration_backup_v10 cascade`;
    await sql`select migration_guard_api.delete_plan('v10', 'alice')`;
    expect(await sql`select version from migration_guard_api.list_backups()`).toEqual([]);
    expect(await refusedFor(askForRemoval(sql, id))).toEqual(["migration_confirmed", "retention_passed"]);
    await expect(sql`select migration_guard_api.confirm_backup('v10', 'All green.', 'alice')`).rejects.toMatchObject({
      code: "MG005",
    });
    expect(await exportOf(sql, id)).toMatchObject({ state: "complete", verified_ok: true });
  });

  test("wants a token of its own", async ({ example: { sql } }) => {
    const id = await makeOld(sql);
    const other = await makeExport(sql, "v10");
    const foreign = (await planRemoval(sql, other)).token;
    const cleanup = (await planCleanup(sql)).token;
    for (const token of [null, "", "x".repeat(64), foreign, cleanup, `${id} ${cleanup}`]) {
      expect(await refusedFor(deleteExport(sql, id, token)), String(token)).toEqual(["token_is_valid"]);
    }
    const { token } = await planRemoval(sql, id);
    for (const confirm of [null, "", other, `${id} `, id.toUpperCase(), "migration_backup_v10"]) {
      expect(await refusedFor(deleteExport(sql, id, token, { confirm }))).toEqual(["confirm_names_export"]);
    }
    await sql`update migration_guard.cleanup_tokens set expires_at = now() where token_hash = migration_guard.export_token_hash(${id}, ${token})`;
    expect(await refusedFor(deleteExport(sql, id, token))).toEqual(["token_is_valid"]);
    const { token: second } = await planRemoval(sql, id);
    await deleteExport(sql, id, second);
    expect(await refusedFor(deleteExport(sql, id, second))).toEqual(["no_job_under_way", "token_is_valid"]);
    await transferAll(sql);
    expect(await refusedFor(deleteExport(sql, other, second))).toEqual(["token_is_valid"]);
  });

  test("is refused to whoever asks the database itself", async ({ example: { sql, connect } }) => {
    await backUp(sql, "v10", examplePlan);
    const id = await makeVerified(sql, "v10");
    const { token } = await planRemoval(sql, id);
    const asked = sql`select migration_guard.enqueue_export_removal(${id}, ${id}, ${token}, 'postgres')`;
    expect(await refusedFor(asked)).toEqual(["migration_confirmed", "retention_passed"]);
    // A job that nobody was let make removes nothing either.
    const [{ job }] = await sql<[{ job: string }]>`
      select (migration_guard.enqueue('remove_export', 'v10', 'alice', jsonb_build_object('export', ${id}::text))).id as job`;
    await sql`update migration_guard.jobs set run_by = 'function' where id = ${job}`;
    await transferAll(sql);
    const { error } = await lastJob(sql) as unknown as { error: { code: string; guards: Guard[] } };
    expect(error.code).toBe("cleanup_refused");
    expect(blocked(error.guards)).toEqual(["migration_confirmed", "retention_passed", "token_is_valid"]);
    expect(await exportOf(sql, id)).toMatchObject({ state: "complete", verified_ok: true });
    for (const role of ["anon", "authenticated", "service_role"]) {
      const other = connect("authenticator");
      await other.unsafe(`set role ${role}`);
      for (
        const statement of [
          "select from migration_guard.exports",
          "delete from migration_guard.export_chunks",
          "insert into migration_guard.transfer_objects values (gen_random_uuid(), 1, 'x', null, 1)",
          "select migration_guard.take_transfers()",
          `select migration_guard.fail_transfer('${job}', 'x', 'x')`,
          `select migration_guard.begin_removal('${job}')`,
          `select migration_guard.finish_transfer('${job}')`,
        ]
      ) await expect(other.unsafe(statement), `${role}: ${statement}`).rejects.toMatchObject({ code: "42501" });
    }
  });

  test("draws a token that cleans no backup up, however it is written", async ({ example: { sql } }) => {
    const id = await makeOld(sql, { two_keys: true });
    const { token } = await planRemoval(sql, id, "bob");
    for (const given of [token, `${id} ${token}`, `\\xff${id} ${token}`, `ÿ${id} ${token}`]) {
      expect(await refusedFor(deleteBackup(sql, given))).toContain("token_is_valid");
    }
  });

  test("wants another key than the one that drew the token, where the plan wants two", async ({ example: { sql } }) => {
    const id = await makeOld(sql, { two_keys: true });
    const { token, two_keys } = await planRemoval(sql, id);
    expect(two_keys).toBe(true);
    expect(await refusedFor(deleteExport(sql, id, token))).toEqual(["second_key"]);
    await deleteExport(sql, id, token, { actor: "bob" });
    await sql`update migration_guard.cleanup_tokens set actor = 'bob'`;
    await transferAll(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "failed", error: { code: "cleanup_refused" } });
    expect(await exportOf(sql, id)).toMatchObject({ state: "complete", verified_ok: true });
    expect((await objectsOf(id)).length).toBeGreaterThan(3);
  });

  test("keeps everybody from importing it from there, as soon as it has begun", async ({ example: { sql, connect } }) => {
    const id = await makeOld(sql);
    await askForRemoval(sql, id);
    const { job } = await lastAsked(sql);
    await sql`select migration_guard.take_transfers()`;
    const ask = (session: postgres.Sql, target: string | null = null) =>
      session`select migration_guard_api.create_import(${id}, 'v11', 'alice', ${target})`;
    const other = connect();
    const pid = await pidOf(other);
    const refused = await sql.begin(async (transaction) => {
      await transaction`select migration_guard.begin_removal(${job})`;
      const asked = expect(ask(other)).rejects.toMatchObject({
        code: "MG046",
        message: expect.stringContaining("is removing: there is nothing to import from offsite"),
      });
      await until(async () => (await transaction`select from pg_locks where pid = ${pid} and not granted`).length > 0);
      return [asked];
    });
    await refused[0];
    await transferAll(sql);
    expect(await exportOf(sql, id)).toMatchObject({ state: "removed" });
    for (const target of [null, "offsite"]) {
      await expect(ask(sql, target)).rejects.toMatchObject({
        code: "MG046",
        message: expect.stringContaining("is removed"),
      });
    }
    // What may be in another store was not removed, and is not wanted while the backup is there.
    await expect(ask(sql, "elsewhere")).rejects.toMatchObject({ code: "MG009" });
    await sql`drop schema migration_backup_v10 cascade`;
    await ask(sql, "elsewhere");
    expect(await lastJob(sql)).toMatchObject({ status: "queued" });
  });

  test("is refused while a job works on it, and no job begins while it is removed", async ({ example: { sql } }) => {
    const id = await makeOld(sql);
    const { token } = await planRemoval(sql, id);
    await askForVerification(sql, id);
    expect(await refusedFor(deleteExport(sql, id, token))).toEqual(["no_job_under_way"]);
    await transferAll(sql);
    await deleteExport(sql, id, token);
    await expect(askForVerification(sql, id)).rejects.toMatchObject({ code: "MG046" });
    await transferAll(sql);
    expect(await exportOf(sql, id)).toMatchObject({ state: "removed", verified_ok: null });
  });

  const changes: [
    title: string,
    change: (sql: postgres.Sql, id: string) => Promise<unknown>,
    code: string,
    guard?: string,
  ][] = [
    [
      "the sign-off is taken back",
      (sql) => sql`update migration_guard.backups set confirmed_at = null, confirmed_by = null`,
      "cleanup_refused",
      "migration_confirmed",
    ],
    [
      "the retention is not over any more",
      (sql) => sql`update migration_guard.backups set confirmed_at = now()`,
      "cleanup_refused",
      "retention_passed",
    ],
    [
      "a job is at work",
      (sql, id) =>
        sql`select migration_guard.enqueue('export', 'v10', 'alice', jsonb_build_object('export', ${id}::text))`,
      "cleanup_refused",
      "no_job_under_way",
    ],
    [
      "the plan wants an export",
      (sql) => sql`update migration_guard.backups set plan = plan || '{"require_export": true}'`,
      "cleanup_refused",
      "not_required",
    ],
    [
      "its token is taken away",
      (sql) => sql`delete from migration_guard.cleanup_tokens`,
      "cleanup_refused",
      "token_is_valid",
    ],
    [
      "its key is no admin any more",
      (sql) => sql`select migration_guard_api.put_key('alice', 'operator', 'default')`,
      "role_required",
    ],
  ];
  test.for(changes)(
    "begins not, and removes nothing, when %s between the request and the job",
    async ([, change, code, guard], { example: { sql } }) => {
      await sql`truncate migration_guard.key_roles`;
      for (
        const name of ["test", "alice", "bob"]
      ) await sql`select migration_guard_api.put_key(${name}, 'admin', 'default')`;
      const id = await makeOld(sql);
      const before = await objectsOf(id);
      await askForRemoval(sql, id);
      const { job } = await lastAsked(sql);
      await change(sql, id);
      await transferAll(sql);
      const [{ error }] = await sql<
        [{ error: { guards?: Guard[] } }]
      >`select error from migration_guard.jobs where id = ${job}`;
      expect(error).toMatchObject({ code });
      if (guard) expect(blocked(error.guards!)).toContain(guard);
      expect(await objectsOf(id)).toEqual(before);
      expect(await exportOf(sql, id)).toMatchObject({ state: "complete", verified_ok: true });
    },
  );

  test("of the only verified export that a plan requires is refused, as long as its backup is there", async ({ example: { sql } }) => {
    const id = await makeOld(sql, { require_export: true });
    const unverified = await makeExport(sql, "v10");
    expect(await refusedFor(askForRemoval(sql, id))).toEqual(["not_required"]);
    await deleteBackup(sql, (await planCleanup(sql)).token);
    await work(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", result: { removed: true } });
    await removeExport(sql, id);
    await removeExport(sql, unverified);
  });

  test("of two that stand for each other leaves one, when both are asked for at once", async ({ example: { sql, connect } }) => {
    const first = await makeOld(sql, { require_export: true });
    const second = await makeVerified(sql, "v10");
    await askForRemoval(sql, first);
    const one = await lastAsked(sql);
    await askForRemoval(sql, second);
    const two = await lastAsked(sql);
    await sql`select migration_guard.take_transfers()`;
    const other = connect();
    const pid = await pidOf(other);
    const refused = await sql.begin(async (transaction) => {
      await transaction`select migration_guard.begin_removal(${one.job})`;
      const begun = expect(other`select migration_guard.begin_removal(${two.job})`).rejects.toMatchObject({
        code: "MG013",
      });
      await until(async () => (await transaction`select from pg_locks where pid = ${pid} and not granted`).length > 0);
      return [begun];
    });
    await refused[0];
    expect(await exportOf(sql, first)).toMatchObject({ state: "removing" });
    expect(await exportOf(sql, second)).toMatchObject({ state: "complete", verified_ok: true });
  });

  test("that fails half way can be done again, by another admin too", async ({ example: { sql } }) => {
    const id = await makeOld(sql, { require_export: true });
    const other = await makeVerified(sql, "v10");
    await askForRemoval(sql, id);
    const { job } = await lastAsked(sql);
    await sql`select migration_guard.take_transfers()`;
    let left = 2;
    const failing: ObjectStore = {
      ...store,
      remove: async (names) => {
        await store.remove(names.slice(0, left));
        left = 0;
        throw new Error("lost");
      },
    };
    await expect(removeStep({ sql, jobId: job, openStore: () => Promise.resolve(failing), identities: [] })).rejects
      .toThrow("lost");
    await sql`select migration_guard.fail_transfer(${job}, 'store_failed', 'The store failed.')`;
    expect(await exportOf(sql, id)).toMatchObject({ state: "removing", verified_ok: null });
    await expect(askForVerification(sql, id)).rejects.toMatchObject({ code: "MG046" });
    // It protects nobody any more, whatever becomes of the other.
    await sql`update migration_guard.exports set verified_ok = false where id = ${other}`;
    const { token } = await planRemoval(sql, id, "bob");
    await deleteExport(sql, id, token, { actor: "bob" });
    await transferAll(sql);
    expect(await exportOf(sql, id)).toMatchObject({ state: "removed", removed_by: "bob" });
    expect(await objectsOf(id)).toEqual([]);
  });
});

describe("a plan that requires an export", () => {
  test("keeps its backup from the migration and from the cleanup until one is verified", async ({ example: { sql } }) => {
    await makeRemovable(sql, "v10", { require_export: true });
    const open = async () =>
      (await sql<{ item: string }[]>`select item from migration_guard.checklist('v10') where required and not passed`)
        .map(({ item }) => item).filter((item) => item !== "not_signed_off");
    const guards = async () => blocked((await planCleanup(sql)).guards);
    expect(await guards()).toEqual(["export_verified"]);
    await sql`update migration_guard.backups set confirmed_at = null, confirmed_by = null`;
    expect(await open()).toEqual(["export_verified"]);
    await expect(sql`select migration_guard.assert_ready('v10')`).rejects.toMatchObject({
      code: "MG012",
      message: expect.stringMatching(/requires an export that was verified, and there is none/),
    });
    const id = await makeExport(sql, "v10");
    expect(await open()).toEqual(["export_verified"]);
    await store.remove([`${id}/manifest.json`]);
    expect((await verifyExport(sql, id)).error).toMatchObject({ code: "object_missing" });
    expect(await open()).toEqual(["export_verified"]);
    await makeVerified(sql, "v10");
    expect(await open()).toEqual([]);
    await sql`select migration_guard.assert_ready('v10')`;
    await sql`update migration_guard.backups set confirmed_at = now() - interval '15 days', confirmed_by = 'alice'`;
    expect(await guards()).toEqual([]);
  });

  test("may be overridden at the cleanup, with a reason", async ({ example: { sql } }) => {
    await makeRemovable(sql, "v10", { require_export: true });
    expect(await refusedFor(deleteBackup(sql, (await planCleanup(sql)).token))).toEqual(["export_verified"]);
    const override = { guard: "export_verified", reason: "The store is gone for good." };
    await deleteBackup(sql, (await planCleanup(sql)).token, { override });
    await work(sql);
    expect(await lastJob(sql)).toMatchObject({ status: "succeeded", result: { removed: true, override } });
  });
});

describe("what is read back", () => {
  /** Puts other bytes under the name of an object. */
  async function replace(id: string, object: string, change: (bytes: Uint8Array) => Uint8Array) {
    const bytes = await store.get(`${id}/${object}`, 10_000_000);
    await store.remove([`${id}/${object}`]);
    await store.put(`${id}/${object}`, change(bytes));
  }
  const flip = (bytes: Uint8Array) => bytes.map((byte, index) => index === bytes.length >> 1 ? byte ^ 1 : byte);

  const faults: [what: string, code: string, fault: (id: string, object: string) => Promise<void>][] = [
    ["missing", "object_missing", (id, object) => store.remove([`${id}/${object}`])],
    ["truncated", "chunk_altered", (id, object) => replace(id, object, (bytes) => bytes.slice(0, -1))],
    ["empty", "chunk_altered", (id, object) => replace(id, object, () => new Uint8Array())],
    ["altered", "chunk_altered", (id, object) => replace(id, object, flip)],
    [
      "longer",
      "object_too_large",
      (id, object) => replace(id, object, (bytes) => Buffer.concat([bytes, Buffer.from("x")])),
    ],
  ];
  const objects = ["data/000002-1.copy.gz", "manifest.json", "restore.sql", "SHA256SUMS"];

  test("is refused for each object that is missing or is not what was written", async ({ database: { sql } }) => {
    await backUpMany(sql);
    const id = await makeExport(sql);
    for (const object of objects) {
      const good = await store.get(`${id}/${object}`, 10_000_000);
      for (const [what, code, fault] of faults) {
        await fault(id, object);
        for (const storedOnly of [false, true]) {
          const { error } = await verifyExport(sql, id, storedOnly);
          expect(error, `${object} ${what}`).toMatchObject({ code, message: expect.stringContaining(object) });
          expect(await exportOf(sql, id)).toMatchObject({ state: "complete", verified_ok: false });
        }
        await store.remove([`${id}/${object}`]);
        await store.put(`${id}/${object}`, good);
      }
    }
    await expectWhole(sql, id);
  });

  test("is refused where two chunks have changed places", async ({ database: { sql } }) => {
    await backUpMany(sql);
    const id = await makeExport(sql);
    const [first, second] = ["data/000003-1.copy.gz", "data/000004-1.copy.gz"] as const;
    const bytes = await store.get(`${id}/${first}`, 10_000_000);
    const other = await store.get(`${id}/${second}`, 10_000_000);
    await replace(id, first, () => other);
    await replace(id, second, () => bytes);
    const { error } = await verifyExport(sql, id);
    expect(["chunk_altered", "object_too_large"]).toContain(error!.code);
    expect(error!.message).toMatch(/000003|000004/);
    expect(await exportOf(sql, id)).toMatchObject({ verified_ok: false });
  });

  test("wants an identity where it is encrypted, unless only what is stored is looked at", async ({ database: { sql } }) => {
    const [identity, stranger] = [await generateIdentity(), await generateIdentity()];
    await backUpMany(sql);
    const id = await makeExport(sql, "v1", [await identityToRecipient(identity)]);
    expect((await verifyExport(sql, id)).error).toMatchObject({
      code: "identity_missing",
      message: expect.stringContaining("restore.sql.age"),
    });
    expect((await verifyExport(sql, id, false, stranger)).error).toMatchObject({ code: "identity_wrong" });
    // That says nothing of the export.
    expect(await exportOf(sql, id)).toMatchObject({ verified_ok: null });
    expect(await verifyExport(sql, id, true)).toMatchObject({ error: null, result: { ok: true, stored_only: true } });
    expect(await verifyExport(sql, id, false, `${stranger} ${identity}`)).toMatchObject({
      error: null,
      result: { ok: true, stored_only: false },
    });
    // Nor that it is verified no more.
    expect((await verifyExport(sql, id)).error).toMatchObject({ code: "identity_missing" });
    expect(await exportOf(sql, id)).toMatchObject({ verified_ok: true });
    await replace(id, "data/000002-1.copy.gz.age", flip);
    for (const storedOnly of [true, false]) {
      expect((await verifyExport(sql, id, storedOnly, identity)).error).toMatchObject({ code: "chunk_altered" });
      expect(await exportOf(sql, id)).toMatchObject({ verified_ok: false });
    }
  });

  test("counts as verified no more when it cannot be read, and is read by one at a time", async ({ database: { sql } }) => {
    await backUpMany(sql);
    const id = await makeVerified(sql);
    await askForVerification(sql, id);
    await expect(askForVerification(sql, id)).rejects.toMatchObject({ code: "MG046" });
    await transferAll(sql, { offsite: { ...offsite().offsite, secret_access_key: "another" } });
    expect((await lastJob(sql)).error).toMatchObject({ code: "store_denied" });
    expect(await exportOf(sql, id)).toMatchObject({ verified_ok: null, verified_at: null });
    expect((await verifyExport(sql, id)).error).toBeNull();
    expect(await exportOf(sql, id)).toMatchObject({ verified_ok: true });
  });

  test("must be finished", async ({ database: { sql } }) => {
    await backUpMany(sql);
    const { id } = await beginExport(sql);
    await expect(askForVerification(sql, id)).rejects.toMatchObject({ code: "MG046" });
    await expect(askForVerification(sql, "v1.0-20260101T000000Z-00000000")).rejects.toMatchObject({ code: "MG045" });
    await expect(sql`select migration_guard_api.resume_export(${id}, 'alice')`).rejects.toMatchObject({
      code: "MG046",
    });
    await transferAll(sql);
    await expect(sql`select migration_guard_api.resume_export(${id}, 'alice')`).rejects.toMatchObject({
      code: "MG046",
    });
  });
});

describe("connections and targets", () => {
  test("a target that is gone from the environment fails the job, and is waited for by nobody", async ({ database: { sql } }) => {
    await backUpMany(sql);
    const { id } = await beginExport(sql);
    await transferAll(sql, {});
    expect(await lastJob(sql)).toMatchObject({
      status: "failed",
      error: { code: "target_not_found", message: expect.stringContaining("offsite") },
    });
    await resume(sql, id);
    await transferAll(sql);
    await expectWhole(sql, id);
  });

  test.for(["CONNECTION_CLOSED", "ECONNRESET", "EPIPE", "57P01", "08006", "40P01"])(
    "a connection that fails with %s is no reason for a job to fail",
    async (code, { database: { sql } }) => {
      await backUpMany(sql);
      const { id } = await beginExport(sql);
      const lost = Object.assign(new Error("lost"), { code });
      const failing = new Proxy(sql, {
        get: (target, name) => name === "begin" ? () => Promise.reject(lost) : Reflect.get(target, name),
      });
      await expect(transferAll(failing)).rejects.toBe(lost);
      expect((await lastJob(sql)).status).toBe("running");
      await transferAll(sql);
      await expectWhole(sql, id);
    },
  );

  test("progress moves, and ends at 100, by what is left when an export is resumed", async ({ database: { sql, connect } }) => {
    await backUpMany(sql);
    const { id, job } = await beginExport(sql);
    const seen: number[] = [];
    const watching: ObjectStore = {
      ...store,
      put: async (name, body) => {
        await store.put(name, body);
        const [read] = await sql`select progress from migration_guard_api.get_job(${job}, 'alice')`;
        seen.push(read!.progress.percent);
      },
    };
    await isolate(exportStep, connect(), job, watching);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(new Set(seen).size).toBeGreaterThan(10);
    const [read] = await sql`select status, progress from migration_guard_api.get_job(${job}, 'alice')`;
    expect(read).toMatchObject({ status: "succeeded", progress: { percent: 100, step: "done", unit: "bytes" } });
    const { bytes, text_bytes, objects, rows } = await exportOf(sql, id);
    expect(objects).toBe((await objectsOf(id)).length);
    const stored = await Promise.all(
      (await objectsOf(id)).map(async (name) => (await store.get(`${id}/${name}`, 1e7)).length),
    );
    expect(Number(bytes)).toBe(stored.reduce((sum, one) => sum + one, 0));
    expect(Number(text_bytes)).toBeGreaterThan(500 * 640);
    expect(Number(rows)).toBeGreaterThan(500);
  });
});
