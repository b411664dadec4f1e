import { deadline } from "deno-std/async/deadline.js";
import { Webhook as Signer } from "standardwebhooks";
import { openSocket } from "./open-socket.ts";
import { readStatus } from "./read-status.ts";
import { type ResolveOptions, resolveWebhookHost } from "./resolve-webhook-host.ts";
import { productVersion } from "./version.ts";
import { WebhookFailure } from "./webhook-failure.ts";

/** A message that is due, as the database gives it. */
export type Webhook = {
  id: string;
  url: string;
  /** Seconds since 1970, by the database's clock. */
  unix_time: number;
  /** The body, byte for byte. */
  payload: string;
};

export type SendOptions = ResolveOptions & {
  /** `whsec_…` */
  secret: string;
  /** Milliseconds for all of it: the name, the connection, the answer. */
  timeLimit?: number;
};

/**
 * Sends a signed message once, and gives the status of the answer. The connection goes to the very address that was
 * checked, whatever the name resolves to a moment later; a redirect is an answer like any other.
 *
 * @throws {WebhookFailure} When there is no answer.
 */
export async function sendWebhook(
  { id, url: text, unix_time, payload }: Webhook,
  { secret, timeLimit = 10_000, ...options }: SendOptions,
): Promise<number> {
  const signal = AbortSignal.timeout(timeLimit);
  const url = new URL(text);
  // What is in the clear may go to this machine alone.
  if (url.protocol !== "https:" && !options.allowPrivate) throw new WebhookFailure("address_not_public");
  const addresses = await deadline(resolveWebhookHost(url, options), timeLimit).catch((error: unknown) => {
    throw error instanceof WebhookFailure ? error : new WebhookFailure("timeout");
  });
  const body = new TextEncoder().encode(payload);
  const head = [
    `POST ${url.pathname}${url.search} HTTP/1.1`,
    `host: ${url.host}`,
    "content-type: application/json",
    `content-length: ${body.length}`,
    `user-agent: migration-guard/${productVersion}`,
    `webhook-id: ${id}`,
    `webhook-timestamp: ${unix_time}`,
    `webhook-signature: ${new Signer(secret).sign(id, new Date(unix_time * 1000), payload)}`,
    "connection: close",
  ];
  const socket = await openFirst(addresses, url, signal);
  const status = readStatus(socket, signal);
  socket.write(`${head.join("\r\n")}\r\n\r\n`);
  socket.write(body);
  return status;
}

/** A connection to the first address that takes one. */
async function openFirst([address, ...others]: string[], url: URL, signal: AbortSignal) {
  try {
    return await openSocket(address!, url, signal);
  } catch (error) {
    if (others.length === 0 || (error as WebhookFailure).code !== "connection_failed") throw error;
    return openFirst(others, url, signal);
  }
}
