import { lookup as systemLookup } from "node:dns/promises";
import { isIP } from "node:net";
import { isPublicAddress } from "./is-public-address.ts";
import { WebhookFailure } from "./webhook-failure.ts";

/** Gives all addresses of a name. */
export type Lookup = (name: string, options: { all: true }) => Promise<{ address: string; family: number }[]>;

export type ResolveOptions = {
  /** Whether an address may be one of a private network, or of the machine itself. */
  allowPrivate: boolean;
  /** The system's, unless told otherwise. */
  lookup?: Lookup;
};

/**
 * The addresses that a URL's host stands for, IPv4 first, since not every platform has a way out over IPv6.
 *
 * @throws {WebhookFailure} `name_not_found`, or `address_not_public` when only one of them is not.
 */
export async function resolveWebhookHost(
  url: URL,
  { allowPrivate, lookup = systemLookup }: ResolveOptions,
): Promise<string[]> {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const found = isIP(host)
    ? [{ address: host, family: isIP(host) }]
    : await lookup(host, { all: true }).catch((): never[] => []);
  if (found.length === 0) throw new WebhookFailure("name_not_found");
  if (!allowPrivate && !found.every(({ address }) => isPublicAddress(address))) {
    throw new WebhookFailure("address_not_public");
  }
  return found.sort((a, b) => a.family - b.family).map(({ address }) => address);
}
