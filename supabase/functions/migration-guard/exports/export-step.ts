import { copyOut } from "./copy-out.ts";
import { CopyTooLarge } from "./copy-too-large.ts";
import { encrypt } from "./encrypt.ts";
import { giveBack } from "./give-back.ts";
import { ObjectStoreError } from "./object-store.ts";
import { seal } from "./seal.ts";
import { sha256 } from "./sha256.ts";
import { transact } from "./transact.ts";
import type { StepOutcome, Transfer } from "./transfer.ts";

/** Bytes of text that a chunk of several rows may have: what one request can pay for. */
const maxChunkBytes = 24 * 1024 * 1024;
/** Bytes of text that a row may have: with its compressed and its encrypted form it has to fit into the function's memory. */
const maxRowBytes = 48 * 1024 * 1024;

type Next = { step: "chunk" | "finish" | "waiting" | "ended"; number: number; attempt: number };

/** Does what comes next for an export: one chunk or, when all are stored, what an export ends with. */
export async function exportStep(transfer: Transfer): Promise<StepOutcome> {
  const [next] = await transfer.sql<[Next]>`
    select step, number, attempt from migration_guard.next_export_step(${transfer.jobId})`;
  if (next.step === "chunk") return await writeChunk(transfer, next);
  if (next.step === "finish") return await finishExport(transfer);
  return next.step;
}

async function writeChunk({ sql, jobId, openStore }: Transfer, { number, attempt }: Next): Promise<StepOutcome> {
  type Held = {
    export: string;
    statement: string | null;
    object: string;
    target: string;
    recipients: string[];
    is_single: boolean;
  };
  try {
    return await transact(sql, async (transaction, meanwhile) => {
      // The row stays locked until the chunk is recorded, or this isolate is lost: then another one takes it.
      const [held] = await transaction<[Held]>`
        select export, statement, object, target, to_jsonb(recipients) as recipients, is_single
        from migration_guard.hold_export_chunk(${jobId}, ${number}, ${attempt})`;
      if (held.statement === null) return { bytes: 0 };
      const store = await meanwhile(openStore(held.target));
      const { blocks } = await copyOut(transaction, held.statement, {
        maxBytes: held.is_single ? maxRowBytes : maxChunkBytes,
      });
      const { body, ...record } = await meanwhile(seal(giveBack(blocks), held.recipients));
      await meanwhile(store.put(`${held.export}/${held.object}`, body));
      await transaction`
        select migration_guard.record_export_chunk(
          ${jobId}, ${number}, ${held.object}, ${transaction.json(record)}, ${store.location})`;
      return { bytes: record.bytes.text };
    });
  } catch (error) {
    if (!(error instanceof CopyTooLarge)) throw error;
    await sql`select migration_guard.split_export_chunk(${jobId}, ${number}, ${attempt})`;
    return { bytes: 0 };
  }
}

/** What is kept of a file: as it is stored, and the text that it was. */
type StoredFile = { object: string; bytes: number; sha256: string; text_sha256: string };

function finishExport({ sql, jobId, openStore }: Transfer): Promise<StepOutcome> {
  type Held = { export: string | null; target: string; recipients: string[]; manifest: string; script: string };
  return transact(sql, async (transaction, meanwhile): Promise<StepOutcome> => {
    const [held] = await transaction<[Held]>`
      select export, target, to_jsonb(recipients) as recipients, manifest, script from migration_guard.hold_export(${jobId})`;
    if (held.export === null) return "waiting";
    const store = await meanwhile(openStore(held.target));
    /** An earlier try may have left another object of that name: its encryption, for one, is another each time. */
    const write = async (name: string, body: Uint8Array<ArrayBuffer>): Promise<void> => {
      const object = `${held.export}/${name}`;
      try {
        await meanwhile(store.put(object, body));
      } catch (error) {
        if (!(error instanceof ObjectStoreError) || error.code !== "object_exists") throw error;
        // Where the connection was lost, the export is in other hands, and so is this object.
        await transaction`select`;
        await meanwhile(store.remove([object]));
        await meanwhile(store.put(object, body));
      }
    };
    const writeText = async (name: string, text: string): Promise<StoredFile> => {
      const plain = new TextEncoder().encode(text);
      const isEncrypted = held.recipients.length > 0;
      const object = isEncrypted ? `${name}.age` : name;
      const body = isEncrypted ? await meanwhile(encrypt(plain, held.recipients)) : plain;
      await write(object, body);
      return { object, bytes: body.length, sha256: sha256(body), text_sha256: sha256(plain) };
    };
    const files = [await writeText("manifest.json", held.manifest), await writeText("restore.sql", held.script)];
    const [{ sums }] = await transaction<[{ sums: string }]>`
      select migration_guard.export_sums(${held.export}, ${transaction.json(files)}) as sums`;
    const body = new TextEncoder().encode(sums);
    // Last, and never encrypted: an export without it is not finished.
    await write("SHA256SUMS", body);
    const sum = sha256(body);
    files.push({ object: "SHA256SUMS", bytes: body.length, sha256: sum, text_sha256: sum });
    await transaction`
      select migration_guard.finish_export(${jobId}, ${transaction.json(files)}, ${sum}, ${store.location})`;
    return "ended";
  });
}
