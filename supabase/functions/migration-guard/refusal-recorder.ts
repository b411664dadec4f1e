import { delay } from "deno-std/async/delay.js";
import { z } from "zod";
import type { Database } from "./database.types.ts";
import { type Client, rpc } from "./rpc.ts";

type Refusal = Database["migration_guard_api"]["Functions"]["record_refusal"]["Args"] & {
  parameters: { status: number };
};

/** Milliseconds in which refusals are gathered that are only numbered. */
const pause = 1000;

/**
 * Makes what records a refusal. When the database tells of no more of a key's with one status, those that follow are counted here, and
 * their number is sent once a second: whoever is refused a thousand times a second does not keep the database busy.
 */
export function refusalRecorder() {
  const full = new Map<string, { until: number; times: number }>();

  return async (client: Client, refusal: Refusal): Promise<void> => {
    const { actor, parameters: { status } } = refusal;
    const key = JSON.stringify([actor, status]);
    const counted = full.get(key);
    if (!counted || performance.now() >= counted.until) {
      const seconds = await rpc(client, "record_refusal", refusal, z.int().nullable());
      if (seconds !== null) full.set(key, { until: performance.now() + seconds * 1000, times: 0 });
      return;
    }
    counted.times++;
    if (counted.times > 1) return;
    await delay(pause);
    const { times } = counted;
    counted.times = 0;
    await rpc(client, "count_refusals", { actor, status: String(status), times }, z.unknown());
  };
}
