import type postgres from "postgres";
import { logError } from "../log-error.ts";
import { ChunkError } from "./chunk-error.ts";
import { ObjectStoreError } from "./object-store.ts";
import { type StepOutcome, type Transfer, TransferError } from "./transfer.ts";

/**
 * Takes a step of a job, and notes how the job has failed, if it has.
 *
 * @throws What a connection fails with that is lost: the job goes on with another one.
 */
export async function takeStep(
  step: (transfer: Transfer) => Promise<StepOutcome>,
  transfer: Transfer,
): Promise<StepOutcome> {
  try {
    return await step(transfer);
  } catch (error) {
    const { sql, jobId } = transfer;
    if (error instanceof ObjectStoreError || error instanceof ChunkError || error instanceof TransferError) {
      await sql`select migration_guard.fail_transfer(${jobId}, ${error.code}, ${error.message})`;
      return "ended";
    }
    const { code: state, message, detail = null, where = null } = error as Partial<postgres.PostgresError>;
    // A connection that is lost, or a server that stops, is no reason for a job to fail. No SQLSTATE begins with E.
    if (typeof state === "string" && /^(CONNECT|E[A-Z]+$)/.test(state)) throw error;
    if (typeof state !== "string" || !/^[0-9A-Z]{5}$/.test(state)) {
      // The places alone: the message may have anything in it.
      const stack = String((error as Error).stack).split("\n").filter((line) => /^\s+at /.test(line)).join("\n");
      logError("transfer_failed", { job: jobId, error: (error as Error).name, stack });
      await sql`
        select migration_guard.fail_transfer(${jobId}, 'internal_error', 'Something went wrong in the function; its log tells more.')`;
      return "ended";
    }
    if (/^(08|25P03|57P|53300|40)/.test(state)) throw error;
    await sql`
      select migration_guard.fail_transfer_by_state(${jobId}, ${state}, ${message ?? ""}, ${detail}, ${where})`;
    return "ended";
  }
}
