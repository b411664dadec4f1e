import { randomUUID } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "deno-std/toml/parse.js";
import { databaseUrl } from "./database-url.ts";
import { type EdgeRuntime, startEdgeRuntime } from "./edge-runtime.ts";
import { startGateway } from "./gateway.ts";
import { jwks, publishableKeys, secretKeys as localSecretKeys, serviceRoleKey, webhookSecret } from "./keys.ts";
import { type Rest, startRest } from "./rest.ts";
import { startStorage } from "./storage.ts";

export type StackOptions = {
  /** Port of the gateway. */
  port: number;
  databasePort: number;
  database?: string;
  /** Named secret keys; the well-known local one unless told otherwise. */
  secretKeys?: Record<string, string>;
  /** Schemas that REST exposes; those of config.toml unless told otherwise. */
  schemas?: string[];
  /** Where Storage keeps its objects; a temporary folder, removed at the end, unless told otherwise. */
  storageFolder?: string;
  /** Largest object that Storage takes; that of config.toml unless told otherwise. */
  fileSizeLimit?: string;
  /** Connection URL that the function gets, when it is not the database's own (a pooler's, say). */
  functionDatabaseUrl?: string;
  /** Variables of the function's environment that are to be other than the platform's. */
  environment?: Record<string, string>;
  /** Hosts, or `host:port` pairs, that the function may connect to besides the stack's own; "all" lets webhooks go anywhere. */
  allowNet?: string[] | "all";
  /** A module that Deno runs before the function. */
  preload?: string;
  /** Receives the function's log. */
  onLog?: (text: string) => void;
};

export type Stack = {
  /** Base URL of the stack, as `SUPABASE_URL`. */
  url: string;
  /** Base URL of the function. */
  functionUrl: string;
  rest: Rest;
  /** Where Storage keeps its objects. */
  storageFolder: string;
  edgeRuntime: EdgeRuntime;
  stop: () => Promise<void>;
};

/** Starts REST, Storage, the function in Deno, and the gateway before them, on a database that is there already. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const {
    port,
    databasePort,
    database = "postgres",
    secretKeys = localSecretKeys,
    schemas = config().api.schemas,
    fileSizeLimit = config().storage.file_size_limit,
    allowNet = [],
    preload,
    onLog,
  } = options;
  const url = `http://127.0.0.1:${port}`;
  const functionDatabaseUrl = options.functionDatabaseUrl ?? databaseUrl({ port: databasePort, database });

  const rest = startRest({ databasePort, database, secretKeys, schemas });
  // It is made with the first object.
  const temporaryFolder = join(tmpdir(), `migration-guard-storage-${randomUUID()}`);
  const { storageFolder = temporaryFolder } = options;
  const storage = startStorage({ databasePort, database, secretKeys, folder: storageFolder, fileSizeLimit });
  const functions: Record<string, string> = {};
  const gateway = await startGateway({ port, rest, storage, functions });
  const edgeRuntime = await startEdgeRuntime({
    env: {
      SUPABASE_URL: url,
      SUPABASE_DB_URL: functionDatabaseUrl,
      SUPABASE_SECRET_KEYS: JSON.stringify(secretKeys),
      SUPABASE_PUBLISHABLE_KEYS: JSON.stringify(publishableKeys),
      SUPABASE_SERVICE_ROLE_KEY: serviceRoleKey,
      SUPABASE_JWKS: JSON.stringify(jwks),
      MIGRATION_GUARD_WEBHOOK_SECRET: webhookSecret,
      MIGRATION_GUARD_ALLOW_PRIVATE_WEBHOOKS: "true",
      ...options.environment,
    },
    allowNet: allowNet === "all" ? "all" : [`127.0.0.1:${port}`, new URL(functionDatabaseUrl).host, ...allowNet],
    preload,
    onLog,
  });
  functions["migration-guard"] = edgeRuntime.url;
  return {
    url,
    functionUrl: `${url}/functions/v1/migration-guard`,
    rest,
    storageFolder,
    edgeRuntime,
    stop: async () => {
      await Promise.all([edgeRuntime.stop(), gateway.stop()]);
      await Promise.all([rest.stop(), storage.stop()]);
      rmSync(temporaryFolder, { recursive: true, force: true });
    },
  };
}

type Config = {
  api: { port: number; schemas: string[] };
  db: { port: number };
  storage: { file_size_limit: string };
};

/** What `supabase/config.toml` says, so that no port and no schema is written twice. */
export function config(): Config {
  const file = join(import.meta.dirname, "..", "supabase", "config.toml");
  return parse(readFileSync(file, "utf8")) as Config;
}
