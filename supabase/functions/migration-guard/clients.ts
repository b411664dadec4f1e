import type { Database } from "./database.types.ts";
import type { Environment } from "./environment.ts";
import type { Client } from "./rpc.ts";

/** What the project's secret keys open. */
export type Clients = {
  /** The client of a key, of any unless one is named: it acts as `service_role`, on the schema `migration_guard_api`. */
  get: (keyName?: string) => Promise<Client>;
  /** Name of the secret key that a request brings as `apikey`, if the project has it. */
  keyNameOf: (request: Request) => Promise<string | undefined>;
};

/** A project that has no secret keys yet has the legacy token, which REST takes in their place. */
export const secretKeysOf = ({ secretKeys, serviceRoleKey }: Environment): Record<string, string> =>
  Object.keys(secretKeys).length > 0 || !serviceRoleKey ? secretKeys : { service_role: serviceRoleKey };

/** Makes a client for each key when it is first used, and keeps it: a client holds nothing of a request. */
export function createClients(environment: Environment): Clients {
  const env = {
    url: environment.url,
    secretKeys: secretKeysOf(environment),
    publishableKeys: environment.publishableKeys,
    jwks: { keys: [] },
  };
  const clients = new Map<string | undefined, Client>();
  // It takes as long to load as all else together, and what needs no credential is answered without.
  const load = () => import("@supabase/server/core");

  return {
    get: async (keyName) => {
      const { createAdminClient } = await load();
      const client = clients.get(keyName) ??
        createAdminClient<Database>({
          auth: { keyName },
          env,
          supabaseOptions: { db: { schema: "migration_guard_api" } },
        }) as unknown as Client;
      clients.set(keyName, client);
      return client;
    },
    keyNameOf: async (request) => {
      const { verifyAuth } = await load();
      const { data, error } = await verifyAuth(request, { auth: "secret:*", env });
      if (error && error.status !== 401) throw error;
      return data?.keyName ?? undefined;
    },
  };
}
