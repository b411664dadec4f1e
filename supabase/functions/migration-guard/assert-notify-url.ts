import { deadline } from "deno-std/async/deadline.js";
import type { Environment } from "./environment.ts";
import { Problem } from "./problems.ts";
import type { Lookup } from "./resolve-webhook-host.ts";
import { WebhookFailure } from "./webhook-failure.ts";

/** Milliseconds for the resolution of a name. */
const nameLimit = 2000;

/**
 * Refuses a plan's `notify_url` that this function could not send to, or should not. A name that cannot be resolved now is
 * accepted: each attempt resolves it again, and checks what it finds.
 *
 * @throws {Problem} `webhook_secret_missing` or `invalid_plan`.
 */
export async function assertNotifyUrl(
  notifyUrl: string | null,
  { secret, allowPrivate }: Environment["webhooks"],
  lookup?: Lookup,
): Promise<void> {
  if (notifyUrl === null) return;
  if (secret === undefined) {
    throw new Problem("webhook_secret_missing", {
      detail:
        "The function has no MIGRATION_GUARD_WEBHOOK_SECRET to sign with: set it, or store the plan without notify_url.",
    });
  }
  if (!URL.canParse(notifyUrl)) throw refused("is no URL.");
  const url = new URL(notifyUrl);
  if (allowPrivate) return;
  if (url.protocol !== "https:") throw refused("is an https URL: what it tells must not be read on the way.");
  const { resolveWebhookHost } = await import("./resolve-webhook-host.ts");
  await deadline(resolveWebhookHost(url, { allowPrivate, lookup }), nameLimit).catch((error) => {
    if (error instanceof WebhookFailure && error.code === "address_not_public") {
      throw refused(`leads to an address that is not public: ${url.hostname} does, and nothing is sent there.`);
    }
  });
}

function refused(why: string): Problem {
  const message = `notify_url ${why}`;
  return new Problem("invalid_plan", { detail: message, errors: [{ path: "notify_url", message }] });
}
