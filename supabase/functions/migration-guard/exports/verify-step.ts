import { assertSame } from "./assert-same.ts";
import { assertStored } from "./assert-stored.ts";
import type { ChunkRecord } from "./chunk-record.ts";
import { decrypt } from "./decrypt.ts";
import { sha256 } from "./sha256.ts";
import { transact } from "./transact.ts";
import { nameObject, type StepOutcome, type Transfer } from "./transfer.ts";
import { assertWhole } from "./unseal.ts";

type Held = {
  number: number;
  object: string;
  /** Of a chunk, or of another file as it is stored. */
  record: ChunkRecord | { bytes: number; sha256: string; text_sha256: string };
  bytes: string;
  export: string;
  target: string;
  parameters: { stored_only: boolean };
};

/** Reads one object of an export back, and checks all of its sums or, if the job wants that, those of what is stored. */
export async function verifyStep({ sql, jobId, openStore, identities }: Transfer): Promise<StepOutcome> {
  await sql`select migration_guard.begin_transfer_object(${jobId})`;
  const bytes = await transact(sql, async (transaction, meanwhile) => {
    const [held] = await transaction<Held[]>`select * from migration_guard.hold_transfer_objects(${jobId}, 1)`;
    if (!held) return undefined;
    const store = await meanwhile(openStore(held.target));
    const stored = await meanwhile(store.get(`${held.export}/${held.object}`, Number(held.bytes)));
    try {
      await meanwhile(assertAsRecorded(stored, held.record, held.parameters.stored_only, identities));
    } catch (error) {
      throw nameObject(error, `Object ${held.object}`);
    }
    await transaction`select migration_guard.finish_transfer_objects(${jobId}, array[${held.number}::int])`;
    return "rows" in held.record ? held.record.bytes.text : stored.length;
  });
  if (bytes !== undefined) return { bytes };
  const [{ outcome }] = await sql<[{ outcome: "waiting" | "ended" }]>`
    select migration_guard.finish_transfer(${jobId}) as outcome`;
  return outcome;
}

async function assertAsRecorded(
  stored: Uint8Array<ArrayBuffer>,
  record: Held["record"],
  storedOnly: boolean,
  identities: readonly string[],
): Promise<void> {
  if (!("rows" in record)) {
    assertSame("stored", "bytes", stored.length, record.bytes);
    assertSame("stored", "sha256", sha256(stored), record.sha256);
    if (storedOnly || record.sha256 === record.text_sha256) return;
    assertSame("text", "sha256", sha256(await decrypt(stored, identities)), record.text_sha256);
  } else if (storedOnly) assertStored(stored, record);
  else await assertWhole(stored, record, identities);
}
