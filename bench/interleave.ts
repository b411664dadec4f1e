/** Something to be timed. What is done before and after it is not in its time. */
export type Run = { before?: () => Promise<unknown>; run: () => Promise<unknown>; after?: () => Promise<unknown> };

/**
 * Times each of several runs once, one after the other. Which of them is first is another one in each round, so that none
 * always finds what the same other one has left in the caches.
 *
 * @returns Milliseconds by name.
 */
export async function interleave(round: number, runs: Record<string, Run>): Promise<Record<string, number>> {
  const names = Object.keys(runs);
  const times: Record<string, number> = {};
  for (let turn = 0; turn < names.length; turn++) {
    const name = names[(turn + round) % names.length]!;
    const { before, run, after } = runs[name]!;
    await before?.();
    const begun = performance.now();
    await run();
    times[name] = performance.now() - begun;
    await after?.();
  }
  return times;
}
