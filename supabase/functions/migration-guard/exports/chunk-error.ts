import type { Stage } from "./chunk-record.ts";

/** Why a chunk cannot be read. */
export class ChunkError extends Error {
  private constructor(
    message: string,
    readonly code: "chunk_altered" | "identity_missing" | "identity_wrong",
    /** Where it was altered: the first stage, from what is stored to the text, that is not what the record says. */
    readonly stage?: Stage,
  ) {
    super(message);
  }

  /** The chunk, or its record, is not what it was. */
  static altered(stage: Stage, what: string): ChunkError {
    return new ChunkError(`The chunk is not what its record says (${stage}: ${what}).`, "chunk_altered", stage);
  }

  static identityMissing(): ChunkError {
    return new ChunkError("The chunk is encrypted, and there is no identity to decrypt it with.", "identity_missing");
  }

  static identityWrong(): ChunkError {
    return new ChunkError("The chunk is encrypted for others than the identities that are there.", "identity_wrong");
  }
}
