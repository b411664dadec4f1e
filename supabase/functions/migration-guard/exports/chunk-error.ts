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
    return new ChunkError(
      "It is encrypted, and the function has no identity to decrypt it with: set EXPORT_AGE_IDENTITIES.",
      "identity_missing",
    );
  }

  static identityWrong(): ChunkError {
    return new ChunkError("It is encrypted for others than the identities of EXPORT_AGE_IDENTITIES.", "identity_wrong");
  }
}
