/** The stages of a chunk: a `copy`'s text; the same in gzip; what is stored, which is that, or its encryption. */
export type Stage = "text" | "compressed" | "stored";

/** What must be known of a chunk, so that nothing of it is trusted before it is checked. Stored as it was compressed, it is not encrypted. */
export type ChunkRecord = {
  rows: number;
  bytes: Record<Stage, number>;
  /** In hexadecimal digits. */
  sha256: Record<Stage, string>;
};
