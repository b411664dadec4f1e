import { setTimeout as sleep } from "node:timers/promises";

/** Asks again until the answer is there. A test that waits for what never comes ends at its own time limit. */
export async function until<T>(ask: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    await sleep(10);
  }
}
