import { App } from "@supabase/lite";
import type { PostgresConnection } from "@supabase/lite/postgres";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { apiKeyResolver } from "./api-key-resolver.ts";
import { connectLite } from "./connect-lite.ts";
import { databaseUrl } from "./database-url.ts";
import { jwtSecret } from "./keys.ts";
import { answerErrorsLikePostgrest } from "./rest-errors.ts";

export type RestOptions = {
  databasePort: number;
  database: string;
  /** Named secret keys that act as `service_role`. */
  secretKeys: Record<string, string>;
  /** Schemas that REST exposes: `[api] schemas` of config.toml. */
  schemas: string[];
};

export type Rest = {
  fetch: (request: Request) => Promise<Response>;
  /** Forgets what it knows of the catalog. */
  reloadSchema: () => void;
  stop: () => Promise<void>;
};

/**
 * REST over the database, by `@supabase/lite`, as close to PostgREST on the platform as it goes:
 *
 * - It logs in as `authenticator`, which has no right of its own, and always switches to the caller's role.
 * - It reads the catalog again on `notify pgrst, 'reload schema'`. Of DDL alone the platform's event trigger tells PostgREST,
 *   and here nobody does.
 * - `authenticator` sees hardly anything in `information_schema`, so the catalog is read over a second connection.
 */
export function startRest({ databasePort, database, secretKeys, schemas }: RestOptions): Rest {
  const requests = connectLite({ user: "authenticator", port: databasePort, database });
  const reader = connectLite({ user: "supabase_admin", port: databasePort, database });
  answerErrorsLikePostgrest(requests);

  let catalog: ReturnType<PostgresConnection["introspect"]> | undefined;
  requests.introspect = () => {
    catalog ??= reader.introspect({ useCache: false }).then((found) => {
      // It answers an unreachable database with an empty catalog: that must not be kept.
      if (found.tables.length === 0) catalog = undefined;
      return found;
    });
    return catalog;
  };

  const forgetCatalog = () => {
    catalog = undefined;
  };
  const listener = postgres(databaseUrl({ user: "supabase_admin", port: databasePort, database }), {
    onnotice: () => {},
  });
  listener.listen("pgrst", forgetCatalog, forgetCatalog).catch(() => {
    // Without a database there is nothing to serve either, and the catalog is read when there is one.
  });

  const app = new App({
    connection: requests,
    auth: { enabled: false, jwt_secret: jwtSecret },
    api: { enabled: true, schemas },
    studio: { enabled: false },
    storage: { enabled: false },
    options: {
      server: {
        disableStudio: true,
        // There is no Auth service here that could look the user up; the token's signature is checked all the same.
        middlewares: [async (c, next) => {
          if (/^Bearer (?!sb_)/.test(c.req.header("authorization") ?? "")) {
            c.set("userId", "of the token");
            c.set("sessionId", "of the token");
          }
          await next();
        }],
        apiKeys: { resolver: apiKeyResolver(secretKeys) },
      },
    },
  });
  const answer = async (request: Request): Promise<Response> => {
    // Without a catalog every function would seem not to exist.
    if ((await requests.introspect()).tables.length === 0) {
      const message = "Could not query the database for the schema cache. Retrying.";
      return Response.json({ code: "PGRST002", message, details: null, hint: null }, { status: 503 });
    }
    return app.server.fetch(request);
  };
  const underWay = new Set<Promise<Response>>();
  return {
    fetch: (request) => {
      const response = answer(request);
      underWay.add(response);
      return response.finally(() => underWay.delete(response));
    },
    reloadSchema: forgetCatalog,
    stop: async () => {
      // The driver does not close a connection that is lent out for a transaction, and would wait for ever; so it does where a
      // server went away while it wrote.
      const closed = Promise.allSettled(underWay).then(() =>
        Promise.all([requests.close(), reader.close(), listener.end({ timeout: 1 })])
      );
      await Promise.race([closed, sleep(5000, undefined, { ref: false })]);
    },
  };
}
