import { concat } from "deno-std/bytes/concat.js";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { promisify } from "node:util";
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
 * @param blocks Each is done with when the next one is asked for.
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
  // Takes half of the time of level 6, for 3 % more bytes.
  const gzip = createGzip({ level: 4, chunkSize: 65_536 });
  gzip.on("data", (part: Uint8Array) => parts.push(part));
  const write = promisify<Uint8Array, void>(gzip.write.bind(gzip));
  const ended = once(gzip, "end");
  // An error is told by the write that fails, too.
  ended.catch(() => {});
  for await (const block of blocks) {
    hash.update(block);
    rows += countRows(block);
    bytes += block.length;
    // Called back when it was compressed.
    await write(block);
  }
  gzip.end();
  await ended;
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
