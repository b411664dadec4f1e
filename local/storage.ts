import { App, setExperimental } from "@supabase/lite";
import { setTimeout as sleep } from "node:timers/promises";
import { apiKeyResolver } from "./api-key-resolver.ts";
import { connectLite } from "./connect-lite.ts";
import { jwtSecret } from "./keys.ts";
import { storageFolder } from "./storage-folder.ts";

export type StorageOptions = {
  databasePort: number;
  database: string;
  /** Named secret keys that act as `service_role`. */
  secretKeys: Record<string, string>;
  /** Where the objects' bytes are. */
  folder: string;
  /** Largest object where its bucket says nothing else, such as `50MiB`. */
  fileSizeLimit: string;
};

export type Storage = {
  fetch: (request: Request) => Promise<Response>;
  stop: () => Promise<void>;
};

/**
 * Storage over the database and a folder, by `@supabase/lite`, which counts it among its experiments.
 *
 * It logs in as `supabase_storage_admin`, which owns the schema `storage` as on the platform: part of its queries it makes as
 * itself, the others as the caller's role. What differs from the platform: `list` gives full names, `Blob`s cannot be uploaded,
 * and errors have the HTTP status 400 and no `code`, as in older versions of Storage.
 */
export function startStorage({ databasePort, database, secretKeys, folder, fileSizeLimit }: StorageOptions): Storage {
  setExperimental("storage", true);
  const connection = connectLite({ user: "supabase_storage_admin", port: databasePort, database });
  const resolver = apiKeyResolver(secretKeys);
  const app = new App({
    connection,
    auth: { enabled: false, jwt_secret: jwtSecret },
    api: { enabled: false },
    studio: { enabled: false },
    storage: { enabled: true, file_size_limit: fileSizeLimit },
    options: { server: { disableStudio: true, apiKeys: { resolver } } },
  });
  app._storageAdapter = storageFolder(folder);
  return {
    fetch: async (request) => {
      // lite takes whoever has a wrong key for somebody without one.
      const key = request.headers.get("apikey");
      if (key && !await resolver(key)) {
        const body = { statusCode: "403", error: "Unauthorized", message: "Invalid Compact JWS" };
        return Response.json(body, { status: 400 });
      }
      // Read here, since lite refuses without reading, which ends the connection under those who are still sending.
      const body = request.body ? await request.arrayBuffer() : undefined;
      return await app.server.fetch(new Request(request, { body }));
    },
    // A connection that is lent out is not closed by the driver, which would wait for ever.
    stop: async () => {
      await Promise.race([connection.close(), sleep(5000, undefined, { ref: false })]);
    },
  };
}
