import fc from "fast-check";
import process from "node:process";
import { expect, test } from "vitest";
import { createApps } from "../support/create-apps.ts";
import { proveRollback, type Verdict } from "../support/random/prove-rollback.ts";
import { scenario } from "../support/random/scenario.ts";

// A fixed one, so that what fails has a cause in the change at hand; others are for whoever looks for more.
const seed = Number(process.env.FAST_CHECK_SEED ?? 20261124);
// On the other majors a sample.
const numRuns = Number(process.env.FAST_CHECK_RUNS ?? (process.env.POSTGRES_MAJOR ? 30 : 300));
// What has failed is made smaller for so long, in milliseconds; each attempt takes a second.
const shrinking = 120_000;

test("whatever was done to whatever schema, a rollback leads all the way back or says why it cannot", {
  timeout: numRuns * 20_000 + 2 * shrinking,
}, async () => {
  console.log(`${numRuns} runs: FAST_CHECK_RUNS=${numRuns} FAST_CHECK_SEED=${seed}`);
  const apps = createApps();
  const verdicts: Record<Verdict, number> = { "led back": 0, "refused": 0, "rows violate a constraint": 0 };
  let failedAt = Infinity;
  try {
    await fc.assert(
      fc.asyncProperty(scenario, async (drawn) => {
        if (performance.now() > failedAt + shrinking) return;
        try {
          verdicts[await proveRollback(await apps.next(), drawn)]++;
        } catch (error) {
          failedAt = Math.min(failedAt, performance.now());
          throw error;
        }
      }),
      { seed, numRuns },
    );
  } finally {
    await apps.drop();
  }
  console.log(Object.entries(verdicts).map(([verdict, count]) => `${verdict}: ${count}`).join(", "));
  // A product that refused everything would have kept its word, and be of no use.
  expect(verdicts["led back"]).toBeGreaterThan(numRuns / 2);
});
