import type postgres from "postgres";
import type { ChunkRecord } from "./chunk-record.ts";
import { copyIn } from "./copy-in.ts";
import { type ObjectStore, ObjectStoreError } from "./object-store.ts";
import { readExport } from "./read-export.ts";
import { transact } from "./transact.ts";
import { nameObject, type StepOutcome, type Transfer, TransferError } from "./transfer.ts";
import { unseal } from "./unseal.ts";

type ImportJob = {
  export: string;
  target: string;
  expected_manifest: string | null;
  /** SHA-256 of the export's `SHA256SUMS`, where the database knows it. */
  sums_sha256: string | null;
};

type Next = { step: "begin" | "chunk" | "waiting" | "ended"; number: number };

type Held = { object: string; statement: string | null; record: ChunkRecord };

/**
 * Does the next piece of an import: reads what there is and has the database make room for it or, when that is done, loads a chunk, in
 * a transaction of its own. A function that is lost costs the chunk that it had. Any number of functions may work on one import.
 *
 * @throws {TransferError | ChunkError | ObjectStoreError} What makes the job fail; so does an error of the database.
 */
export async function importStep(transfer: Transfer): Promise<StepOutcome> {
  const { sql, jobId } = transfer;
  const [job] = await sql<[ImportJob?]>`
    select j.parameters ->> 'export' as export, j.parameters ->> 'target' as target,
      j.parameters ->> 'expected_manifest' as expected_manifest,
      (select e.sums_sha256 from migration_guard.exports as e where e.id = j.parameters ->> 'export') as sums_sha256
    from migration_guard.get_transfer(${jobId}) as j where j.kind = 'import'`;
  if (!job) return "ended";
  const store = await transfer.openStore(job.target);
  const [next] = await sql<[Next]>`select step, number from migration_guard.next_import_step(${jobId})`;
  if (next.step === "begin") return await begin(transfer, store, job);
  if (next.step === "chunk") return await loadChunk(transfer, store, job, next.number);
  return next.step;
}

async function begin({ sql, jobId, identities }: Transfer, store: ObjectStore, job: ImportJob): Promise<StepOutcome> {
  return await transact(sql, async (transaction, meanwhile) => {
    const [{ is_held }] = await transaction<[{ is_held: boolean }]>`
      select migration_guard.hold_import(${jobId}) as is_held`;
    if (!is_held) return "waiting";
    const wanted = await meanwhile(readWanted(store, job, identities));
    await transaction`select migration_guard.begin_import(${jobId}, ${transaction.json(wanted)})`;
    return { bytes: 0 };
  });
}

/** Of an export's manifest what the database is told. */
async function readWanted(store: ObjectStore, job: ImportJob, identities: readonly string[]) {
  const manifest = await readExport(store, {
    id: job.export,
    identities,
    sumsSha256: job.sums_sha256,
    expectedManifest: job.expected_manifest,
  });
  return {
    manifest: manifest.manifest,
    backup: { backup_id: manifest.backup.backup_id },
    tables: manifest.tables.map(({ name, columns }) => ({ name, columns })),
    chunks: manifest.chunks,
  };
}

async function loadChunk(
  { sql, jobId, identities }: Transfer,
  store: ObjectStore,
  job: ImportJob,
  number: number,
): Promise<StepOutcome> {
  return await transact(sql, async (transaction, meanwhile) => {
    // The row stays locked until the chunk is loaded, or this isolate is lost: then another one takes it.
    const [{ object, statement, record }] = await transaction<[Held]>`
      select object, statement, record from migration_guard.hold_import_chunk(${jobId}, ${number})`;
    if (statement === null) return { bytes: 0 };
    const blocks = await meanwhile(readChunk(store, `${job.export}/${object}`, record, identities));
    const rows = await load(transaction, statement, blocks);
    await transaction`select migration_guard.finish_import_chunk(${jobId}, ${number}, ${rows})`;
    return { bytes: record.bytes.text };
  });
}

/** Loads the rows of a chunk, and gives their number. */
async function load(transaction: postgres.TransactionSql, statement: string, blocks: Uint8Array[]): Promise<number> {
  try {
    return await copyIn(transaction, statement, blocks);
  } catch (error) {
    // What has to do with the values, and not with the server's state.
    const { code } = error as { code?: unknown };
    if (typeof code !== "string" || !/^2[23]...$/.test(code)) throw error;
    throw new TransferError("import_damaged", `A chunk has rows that its table does not take (SQLSTATE ${code}).`);
  }
}

/** The text of a chunk, when all of it has been checked. */
async function readChunk(store: ObjectStore, name: string, record: ChunkRecord, identities: readonly string[]) {
  try {
    return await unseal(await store.get(name, record.bytes.stored), record, identities);
  } catch (error) {
    if (error instanceof ObjectStoreError && error.code === "object_too_large") {
      throw new TransferError("chunk_altered", `${name} is larger than its record says.`);
    }
    throw nameObject(error, name);
  }
}
