import { createMiddleware } from "hono/factory";
import { type Clients, secretKeysOf } from "./clients.ts";
import type { Environment } from "./environment.ts";
import { isSameSecret } from "./is-same-secret.ts";
import { Problem } from "./problems.ts";
import type { Client } from "./rpc.ts";

/** What the handlers behind {@link authenticate} find in their context. */
export type Authenticated = {
  /** Name of the key that asked; `service_role` for a token. */
  actor: string;
  /** Acts as `service_role`, on the schema `migration_guard_api`. */
  client: Client;
};

/** The actors that a request may have. */
export const keyNames = (environment: Environment) => [
  ...new Set([...Object.keys(secretKeysOf(environment)), "service_role"]),
];

/**
 * Lets a request pass that brings a named secret key as `apikey`, or a `service_role` token as `Authorization: Bearer`.
 *
 * @throws {Problem} `missing_credentials`, `invalid_credentials`, `expired_token` or `service_role_required`.
 */
export function authenticate(environment: Environment, clients: Clients) {
  const { publishableKeys, serviceRoleKey } = environment;

  async function isPublishable(apikey: string): Promise<boolean> {
    const same = await Promise.all(Object.values(publishableKeys).map((key) => isSameSecret(apikey, key)));
    return same.includes(true);
  }

  return createMiddleware<{ Variables: Authenticated }>(async (c, next) => {
    const apikey = c.req.header("apikey");
    const token = c.req.header("authorization")?.match(/^Bearer +(\S+)$/i)?.[1];
    if (!apikey && !token) {
      throw new Problem("missing_credentials", {
        detail: "Send a secret key in the header apikey, or a service_role token in Authorization: Bearer.",
      });
    }
    const keyName = apikey ? await clients.keyNameOf(c.req.raw) : undefined;
    if (apikey && keyName !== undefined) {
      // One secret is one actor, under whichever name and in whichever header it comes.
      const isLegacy = serviceRoleKey !== undefined && await isSameSecret(apikey, serviceRoleKey);
      c.set("actor", isLegacy ? "service_role" : keyName);
      c.set("client", await clients.get(keyName));
      return next();
    }

    // supabase-js repeats its key as a bearer token.
    if (token && !token.startsWith("sb_")) {
      const { verifyServiceRole } = await import("./verify-service-role.ts");
      await verifyServiceRole(token, environment);
      c.set("actor", "service_role");
      c.set("client", await clients.get());
      return next();
    }
    if (apikey && await isPublishable(apikey)) {
      throw new Problem("service_role_required", { detail: "A publishable key cannot do this: send a secret key." });
    }
    throw new Problem("invalid_credentials", {
      detail: apikey
        ? "What the header apikey has is no secret key of this project: Project Settings → API Keys lists them."
        : "A secret key belongs in the header apikey, not in Authorization.",
    });
  });
}
