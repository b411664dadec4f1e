import { assertSame } from "./assert-same.ts";
import type { ChunkRecord } from "./chunk-record.ts";
import { sha256 } from "./sha256.ts";

/**
 * Holds what is stored against a chunk's record, for which no identity is needed. It tells nothing of the rest of the record.
 *
 * @throws {ChunkError} `chunk_altered`
 */
export function assertStored(stored: Uint8Array, record: ChunkRecord): void {
  assertSame("stored", "bytes", stored.length, record.bytes.stored);
  assertSame("stored", "sha256", sha256(stored), record.sha256.stored);
}
