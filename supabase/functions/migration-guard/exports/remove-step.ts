import { transact } from "./transact.ts";
import type { StepOutcome, Transfer } from "./transfer.ts";

/** Objects that one step removes. */
const removedAtOnce = 200;

type Held = { number: number; object: string; export: string; target: string };

/** Removes some objects of an export, once the database has found that it may go. */
export async function removeStep({ sql, jobId, openStore }: Transfer): Promise<StepOutcome> {
  const [{ is_begun }] = await sql<[{ is_begun: boolean }]>`
    select migration_guard.begin_removal(${jobId}) as is_begun`;
  if (!is_begun) return "waiting";
  const removed = await transact(sql, async (transaction, meanwhile) => {
    const held = await transaction<Held[]>`
      select * from migration_guard.hold_transfer_objects(${jobId}, ${removedAtOnce})`;
    const [first] = held;
    if (!first) return 0;
    const store = await meanwhile(openStore(first.target));
    await meanwhile(store.remove(held.map((one) => `${one.export}/${one.object}`)));
    const numbers = held.map(({ number }) => number);
    await transaction`
      select migration_guard.finish_transfer_objects(${jobId}, array(
        select jsonb_array_elements_text(${transaction.json(numbers)})::int))`;
    return held.length;
  });
  if (removed > 0) return { bytes: 0 };
  const [{ outcome }] = await sql<[{ outcome: "waiting" | "ended" }]>`
    select migration_guard.finish_transfer(${jobId}) as outcome`;
  return outcome;
}
