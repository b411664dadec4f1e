import type postgres from "postgres";
import { ChunkError } from "./chunk-error.ts";
import type { ObjectStore } from "./object-store.ts";

/** What a step of a job that needs an object store is given. */
export type Transfer = {
  /** A connection of the product's owner. */
  sql: postgres.Sql;
  jobId: string;
  /** @throws {TransferError} `target_not_found` where there is no such target. */
  openStore: (target: string) => Promise<ObjectStore>;
  /** age identities that open what is encrypted. */
  identities: readonly string[];
};

/** How a step went: something was done (so many bytes of text), others have all that is left at the moment, or the job has ended for this function. */
export type StepOutcome = { bytes: number } | "waiting" | "ended";

/** Why a job that needs an object store fails, besides what stores and chunks fail with. */
export class TransferError extends Error {
  constructor(readonly code: string, message: string) {
    super(message);
  }
}

/** An error as one of an object, where a chunk or a manifest of that name could not be read; any other as it is. */
export function nameObject(error: unknown, object: string): unknown {
  return error instanceof ChunkError ? new TransferError(error.code, `${object}: ${error.message}`) : error;
}
