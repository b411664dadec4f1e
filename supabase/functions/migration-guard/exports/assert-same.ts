import { ChunkError } from "./chunk-error.ts";
import type { Stage } from "./chunk-record.ts";

/** @throws {ChunkError} `chunk_altered`, unless something of a stage is what the record has. */
export function assertSame<T extends number | string>(stage: Stage, what: string, found: T, recorded: T): void {
  if (found !== recorded) {
    throw ChunkError.altered(stage, `${what} ${found} instead of ${recorded}`);
  }
}
