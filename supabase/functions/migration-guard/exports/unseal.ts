import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { assertSame } from "./assert-same.ts";
import { assertStored } from "./assert-stored.ts";
import { ChunkError } from "./chunk-error.ts";
import type { ChunkRecord } from "./chunk-record.ts";
import { countRows } from "./count-rows.ts";
import { decrypt } from "./decrypt.ts";
import { sha256 } from "./sha256.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/**
 * The text of a chunk, in parts of 64 KiB, once all of it has been checked: each stage is held against the record before it is
 * decrypted, decompressed, or given back, and no more is decompressed than the record has.
 *
 * @param identities As `parseIdentities` gives them.
 * @throws {ChunkError}
 */
export async function unseal(stored: Bytes, record: ChunkRecord, identities: readonly string[] = []): Promise<Bytes[]> {
  const blocks: Bytes[] = [];
  await open(stored, record, identities, (block) => blocks.push(block));
  return blocks;
}

/**
 * Checks a chunk as {@link unseal} does, and keeps nothing of its text.
 *
 * @throws {ChunkError}
 */
export async function assertWhole(stored: Bytes, record: ChunkRecord, identities: readonly string[]): Promise<void> {
  await open(stored, record, identities, () => {});
}

/** @param take Is given the text as it comes, which is right only when this has ended. */
async function open(
  stored: Bytes,
  record: ChunkRecord,
  identities: readonly string[],
  take: (block: Bytes) => void,
): Promise<void> {
  assertStored(stored, record);
  const isEncrypted = record.sha256.stored !== record.sha256.compressed;
  const compressed = isEncrypted ? await decrypt(stored, identities) : stored;
  assertSame("compressed", "bytes", compressed.length, record.bytes.compressed);
  if (isEncrypted) {
    assertSame("compressed", "sha256", sha256(compressed), record.sha256.compressed);
  }
  await decompress(compressed, record, take);
}

/** The sum of what is compressed says nothing of how long it becomes, where chunk and record were made to deceive. */
async function decompress(compressed: Bytes, record: ChunkRecord, take: (block: Bytes) => void): Promise<void> {
  const hash = createHash("sha256");
  let bytes = 0;
  let rows = 0;
  const gunzip = createGunzip({ chunkSize: 65_536 });
  try {
    for await (const block of Readable.from(pieces(compressed)).pipe(gunzip) as AsyncIterable<Bytes>) {
      bytes += block.length;
      if (bytes > record.bytes.text) break;
      hash.update(block);
      rows += countRows(block);
      take(block);
    }
  } catch {
    throw ChunkError.altered("compressed", "no gzip file, or a broken one");
  }
  assertSame("text", "bytes", bytes, record.bytes.text);
  assertSame("text", "sha256", hash.digest("hex"), record.sha256.text);
  assertSame("text", "rows", rows, record.rows);
}

/** In one piece, all that comes of it would be there before any of it could be counted. */
function* pieces(bytes: Bytes): Iterable<Bytes> {
  for (let at = 0; at < bytes.length; at += 65_536) {
    yield bytes.subarray(at, at + 65_536);
  }
}
