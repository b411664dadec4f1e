import { delay } from "deno-std/async/delay.js";
import { z } from "zod";
import type { Environment } from "./environment.ts";
import { logError } from "./log-error.ts";
import { type Client, rpc } from "./rpc.ts";
import { WebhookFailure } from "./webhook-failure.ts";

/** How many are sent side by side. */
const batch = 10;
/** The longest pause in seconds that an isolate waits for; after a longer one some later request sends. */
const longestPause = 75;

const Due = z.object({
  id: z.string(),
  url: z.string(),
  attempt: z.int(),
  unix_time: z.coerce.number(),
  payload: z.string(),
});

/**
 * Sends the webhooks that are due, and those that failed and are soon due again. Never fails: what is not sent stays in the
 * database, for whoever calls this next. Any number of calls may go on side by side, since each takes what it sends.
 */
export async function deliverWebhooks(
  client: Client,
  { secret, allowPrivate }: Environment["webhooks"],
): Promise<void> {
  if (secret === undefined) return;
  try {
    for (;;) {
      const due = await rpc(client, "take_webhooks", { max_webhooks: batch }, z.array(Due));
      const pauses = await Promise.all(due.map(attempt));
      if (due.length === batch) continue;
      const pause = Math.min(...pauses.filter((seconds) => seconds !== null));
      if (pause > longestPause) return;
      await delay(pause * 1000);
    }
  } catch (error) {
    logError("webhooks_failed", { reason: (error as { code?: string }).code ?? (error as Error).name });
  }

  /** Seconds until the next attempt, null where none is needed. */
  async function attempt({ attempt, ...webhook }: z.output<typeof Due>): Promise<number | null> {
    // What signs and sends is loaded when there is something to send.
    const { sendWebhook } = await import("./send-webhook.ts");
    const outcome: { status?: number; failure?: string } = await sendWebhook(webhook, { secret: secret!, allowPrivate })
      .then(
        (status) => ({ status }),
        (error) => ({ failure: error instanceof WebhookFailure ? error.code : "not_sent" }),
      );
    const { status = null, failure = null } = outcome;
    const level = status !== null && status >= 200 && status < 300 ? "info" : "warn";
    console.log(JSON.stringify({ level, event: "webhook", id: webhook.id, attempt, status, failure }));
    return rpc(client, "record_webhook", { id: webhook.id, attempt, ...outcome }, z.int().nullable());
  }
}
