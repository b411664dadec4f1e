import type { SupabaseContext } from "@supabase/server";
import { withSupabase } from "@supabase/server/adapters/hono";
import { createAdminClient } from "@supabase/server/core";
import { createMiddleware } from "hono/factory";
import { HTTPException } from "hono/http-exception";
import type { Database } from "./database.types.ts";
import type { Environment } from "./environment.ts";
import { isSameSecret } from "./is-same-secret.ts";
import { Problem } from "./problems.ts";
import type { Client } from "./rpc.ts";
import { verifyServiceRole } from "./verify-service-role.ts";

/** What the handlers behind {@link authenticate} find in their context. */
export type Authenticated = {
  /** Name of the key that asked; `service_role` for a token. */
  actor: string;
  /** Acts as `service_role`, on the schema `migration_guard_api`. */
  client: Client;
};

/** A project that has no secret keys yet has the legacy token, which REST takes in their place. */
const secretKeysOf = ({ secretKeys, serviceRoleKey }: Environment): Record<string, string> =>
  Object.keys(secretKeys).length > 0 || !serviceRoleKey ? secretKeys : { service_role: serviceRoleKey };

/** The actors that a request may have. */
export const keyNames = (environment: Environment) => [
  ...new Set([...Object.keys(secretKeysOf(environment)), "service_role"]),
];

const supabaseOptions = { db: { schema: "migration_guard_api" } } as const;

const platformEnv = (environment: Environment) => ({
  url: environment.url,
  secretKeys: secretKeysOf(environment),
  // The adapter also makes a client with a publishable key, which is used for nothing here and may not be missing.
  publishableKeys: { default: "none", ...environment.publishableKeys },
  jwks: { keys: [] },
});

/** A client that acts as `service_role`, by one of the project's secret keys. */
export const createClient = (environment: Environment) =>
  createAdminClient<Database>({ env: platformEnv(environment), supabaseOptions }) as unknown as Client;

/**
 * Lets a request pass that brings a named secret key as `apikey`, or a `service_role` token as `Authorization: Bearer`.
 *
 * @throws {Problem} `missing_credentials`, `invalid_credentials`, `expired_token` or `service_role_required`.
 */
export function authenticate(environment: Environment) {
  const { publishableKeys, serviceRoleKey } = environment;
  const env = platformEnv(environment);
  const acceptSecretKey = withSupabase({ auth: "secret:*", env, supabaseOptions });

  async function isPublishable(apikey: string): Promise<boolean> {
    const same = await Promise.all(Object.values(publishableKeys).map((key) => isSameSecret(apikey, key)));
    return same.includes(true);
  }

  return createMiddleware<{ Variables: Authenticated & { supabaseContext: SupabaseContext } }>(async (c, next) => {
    const apikey = c.req.header("apikey");
    const token = c.req.header("authorization")?.match(/^Bearer +(\S+)$/i)?.[1];
    if (!apikey && !token) {
      throw new Problem("missing_credentials", {
        detail: "Send a secret key in the header apikey, or a service_role token in Authorization: Bearer.",
      });
    }
    if (apikey && await acceptsSecretKey()) return;

    // supabase-js repeats its key as a bearer token.
    if (token && !token.startsWith("sb_")) {
      await verifyServiceRole(token, environment);
      c.set("actor", "service_role");
      c.set("client", createClient(environment));
      return next();
    }
    if (apikey && await isPublishable(apikey)) {
      throw new Problem("service_role_required", { detail: "A publishable key cannot do this: send a secret key." });
    }
    throw new Problem("invalid_credentials", {
      detail: "The project has no such secret key in the header apikey, where it belongs.",
    });

    async function acceptsSecretKey(): Promise<boolean> {
      try {
        await acceptSecretKey(c as unknown as Parameters<typeof acceptSecretKey>[0], async () => {
          // One secret is one actor, under whichever name and in whichever header it comes.
          const isLegacy = serviceRoleKey !== undefined && await isSameSecret(apikey!, serviceRoleKey);
          c.set("actor", isLegacy ? "service_role" : c.var.supabaseContext.authKeyName!);
          c.set("client", c.var.supabaseContext.supabaseAdmin as unknown as Client);
          return next();
        });
        return true;
      } catch (error) {
        if (error instanceof HTTPException && error.status === 401) return false;
        throw error;
      }
    }
  });
}
