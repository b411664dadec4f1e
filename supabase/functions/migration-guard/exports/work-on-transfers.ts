import { delay } from "deno-std/async/delay.js";
import type postgres from "postgres";
import type { Environment } from "../environment.ts";
import type { ObjectStore } from "./object-store.ts";
import { openStore } from "./open-store.ts";
import { takeStep } from "./take-step.ts";
import { type StepOutcome, type Transfer, TransferError } from "./transfer.ts";

/**
 * Bytes of text that one call copies: to read, compress, encrypt and hash them takes about a second of the two that the platform
 * gives a request.
 */
const bytesPerCall = 24 * 1024 * 1024;
/** Milliseconds after which a call leaves the rest to the next, since an isolate does not live for ever. */
const timePerCall = 60_000;
/** Milliseconds after which it is looked again whether others have come to an end with what is left, or were lost. */
const pause = 500;
/** Milliseconds for which a bucket that was found to be private is believed to be so. */
const preparedFor = 60_000;

/** Milliseconds without a step after which a call in this isolate is taken for lost: longer than a store is waited for. */
const lostAfter = 300_000;

/** When the call that is at work in this isolate has begun its last step. One at a time: each has a chunk in memory. */
let busySince: number | undefined;
/** Whether another one has come meanwhile. */
let isWanted = false;

/** Loaded by those isolates that need them. */
const steps: Record<string, () => Promise<(transfer: Transfer) => Promise<StepOutcome>>> = {
  export: async () => (await import("./export-step.ts")).exportStep,
  verify_export: async () => (await import("./verify-step.ts")).verifyStep,
  remove_export: async () => (await import("./remove-step.ts")).removeStep,
  import: async () => (await import("./import-step.ts")).importStep,
};

export type TransferOptions = {
  environment: Environment;
  /** Has another call go on with a job. Says whether somebody has heard. */
  callAgain: (jobId: string) => Promise<boolean>;
};

/**
 * Works on the jobs that need an object store for as long as one call may, and has another call go on with what is left.
 *
 * @returns Whether something was done that the database's worker may have to go on with.
 * @throws What a connection fails with that is lost.
 */
export async function workOnTransfers(
  sql: postgres.Sql,
  options: TransferOptions,
): Promise<boolean> {
  if (busySince !== undefined && Date.now() - busySince < lostAfter) {
    isWanted = true;
    return false;
  }
  isWanted = false;
  busySince = Date.now();
  try {
    return await workInTurn(sql, options) || isWanted;
  } finally {
    busySince = undefined;
  }
}

async function workInTurn(sql: postgres.Sql, { environment, callAgain }: TransferOptions): Promise<boolean> {
  const jobs = await sql<{ id: string; kind: string }[]>`
    select t.id, j.kind from migration_guard.take_transfers() as t (id) join migration_guard.jobs as j on j.id = t.id`;
  const open = storeOpener(environment);
  let begun = Date.now();
  let bytes = 0;
  let isDone = false;
  // One that others have all of at the moment comes again when the rest is done.
  for (const job of jobs) {
    const step = await steps[job.kind]!();
    const transfer = { sql, jobId: job.id, openStore: open, identities: environment.exports.identities };
    // The first call of many tells others that there is something to do.
    if (job.kind === "export" && await isLarge(sql, job.id)) void Promise.all([callAgain(job.id), callAgain(job.id)]);
    for (;;) {
      busySince = Date.now();
      const outcome = await takeStep(step, transfer);
      if (outcome === "waiting" && Date.now() - begun < timePerCall) {
        jobs.push(job);
        await delay(pause);
        break;
      }
      if (typeof outcome === "string") {
        isDone ||= outcome === "ended";
        break;
      }
      isDone = true;
      bytes += outcome.bytes;
      if (bytes < bytesPerCall && Date.now() - begun < timePerCall) continue;
      if (await callAgain(job.id)) return false;
      // Where nobody else can be called, this one goes on.
      bytes = 0;
      begun = Date.now();
    }
  }
  return isDone;
}

/** Whether an export has more to do than a call, and nobody has begun it. */
async function isLarge(sql: postgres.Sql, jobId: string): Promise<boolean> {
  const [{ is_large }] = await sql<[{ is_large: boolean }]>`
    select coalesce(sum(c.estimated_bytes) > ${bytesPerCall}::bigint and max(c.attempts) = 0, false) as is_large
    from migration_guard.jobs as j join migration_guard.export_chunks as c on c.export_id = j.parameters ->> 'export'
    where j.id = ${jobId}`;
  return is_large;
}

/** Opens each store once, and looks now and then whether its bucket is there and private. */
function storeOpener(environment: Environment): (target: string) => Promise<ObjectStore> {
  const stores = new Map<string, { store: ObjectStore; preparedAt: number }>();
  return async (target) => {
    const known = stores.get(target);
    if (known && Date.now() - known.preparedAt < preparedFor) return known.store;
    const store = known?.store ?? await openStore(target, environment);
    if (!store) {
      throw new TransferError(
        "target_not_found",
        `The function has no target ${target} any more: EXPORT_TARGETS names them.`,
      );
    }
    await store.prepare();
    stores.set(target, { store, preparedAt: Date.now() });
    return store;
  };
}
