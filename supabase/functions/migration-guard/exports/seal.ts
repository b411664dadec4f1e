import { concat } from "deno-std/bytes/concat.js";
import { createHash } from "node:crypto";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { ChunkRecord } from "./chunk-record.ts";
import { countRows } from "./count-rows.ts";
import { encrypt } from "./encrypt.ts";
import { sha256 } from "./sha256.ts";

/** A chunk as it is stored, and what is to be kept of it elsewhere. */
export type SealedChunk = ChunkRecord & { body: Uint8Array<ArrayBuffer> };

/**
 * Compresses the text of a `copy` with gzip, and encrypts that for the recipients, if there are any: `gunzip` reads the one, and
 * `age --decrypt` the other. Compression gives the same bytes for the same text, encryption others each time.
 *
 * @param recipients As `parseRecipients` gives them.
 */
export async function seal(
  blocks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  recipients: readonly string[] = [],
): Promise<SealedChunk> {
  const hash = createHash("sha256");
  let rows = 0;
  let bytes = 0;
  const parts: Uint8Array[] = [];
  await pipeline(
    async function* () {
      for await (const block of blocks) {
        hash.update(block);
        rows += countRows(block);
        bytes += block.length;
        yield block;
      }
    },
    createGzip({ level: 6, chunkSize: 65_536 }),
    async (source: AsyncIterable<Uint8Array>) => {
      for await (const part of source) parts.push(part);
    },
  );
  const compressed = concat(parts);
  const sums = { text: hash.digest("hex"), compressed: sha256(compressed) };
  const body = recipients.length === 0 ? compressed : await encrypt(compressed, recipients);
  return {
    body,
    rows,
    bytes: { text: bytes, compressed: compressed.length, stored: body.length },
    sha256: {
      ...sums,
      stored: body === compressed ? sums.compressed : sha256(body),
    },
  };
}
