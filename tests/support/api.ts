import { databaseUrl } from "../../local/database-url.ts";
import { freePort } from "../../local/edge-runtime.ts";
import { secretKeys } from "../../local/keys.ts";
import { type Stack, type StackOptions, startStack } from "../../local/stack.ts";
import { createDatabase, type Template, test as base, type TestDatabase } from "./database.ts";

/** The whole stack on a database of a test's own: REST, the function in Deno, the gateway. */
export type Api = {
  database: TestDatabase;
  stack: Stack;
  /** Calls the API with the default secret key, unless the headers say otherwise. */
  call: (method: string, path: string, options?: CallOptions) => Promise<Answer>;
  stop: () => Promise<void>;
};

export type CallOptions = {
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is. */
  body?: BodyInit;
  /** Seconds for `Prefer: wait`. */
  wait?: number;
  /** Replaces all credentials. */
  credentials?: Record<string, string>;
  headers?: Record<string, string>;
};

export type Answer = {
  status: number;
  headers: Headers;
  text: string;
  // deno-lint-ignore no-explicit-any
  json: any;
};

/** Credentials of a key for each role; the roles have to be given: see {@link giveRoles}. */
export const credentials = {
  viewer: { apikey: "sb_secret_of_the_watcher" },
  operator: { apikey: "sb_secret_of_the_night_shift" },
  admin: { apikey: secretKeys.default },
};

/** The local keys, and those of a viewer and an operator. */
const keys = { ...secretKeys, watcher: credentials.viewer.apikey, night_shift: credentials.operator.apikey };

/** Gives the keys of {@link credentials} their roles, where no other key has one. */
export async function giveRoles({ call, database: { sql } }: Api): Promise<void> {
  await sql`truncate migration_guard.key_roles`;
  await call("PUT", "/v1/keys/watcher", { json: { role: "viewer" } });
  await call("PUT", "/v1/keys/night_shift", { json: { role: "operator" } });
}

/** Makes the `call` of an API whose function is at `base`. */
export function caller(base: string): Api["call"] {
  return async (method, path, { json, body, wait, credentials, headers } = {}) => {
    const response = await fetch(base + path, {
      method,
      body: json === undefined ? body : JSON.stringify(json),
      headers: {
        ...(credentials ?? { apikey: secretKeys.default }),
        ...(json === undefined ? {} : { "content-type": "application/json" }),
        ...(wait === undefined ? {} : { prefer: `wait=${wait}` }),
        ...headers,
      },
    });
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("content-type") ?? "");
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: isJson && text ? JSON.parse(text) : undefined,
    };
  };
}

/** @param ports Where REST and the function's worker find Postgres, when that is not where it listens. */
export async function startApi(
  template: Template,
  options: Partial<StackOptions> = {},
  ports: { rest?: number; worker?: number } = {},
): Promise<Api> {
  const database = await createDatabase(template);
  const stack = await startStack({
    port: await freePort(),
    databasePort: ports.rest ?? database.port,
    database: database.name,
    secretKeys: keys,
    functionDatabaseUrl: databaseUrl({ port: ports.worker ?? database.port, database: database.name }),
    ...options,
  });
  return {
    database,
    stack,
    call: caller(stack.functionUrl),
    stop: async () => {
      await stack.stop();
      await database.drop();
    },
  };
}

/** `test` with an API: `api` is shared by the tests of a file, `freshApi` is a test's own. Both have the example app. */
export const test = base
  .extend("api", { scope: "file" }, async ({}, { onCleanup }) => {
    const api = await startApi("with_example");
    onCleanup(api.stop);
    return api;
  })
  .extend("freshApi", async ({}, { onCleanup }) => {
    const api = await startApi("with_example");
    onCleanup(api.stop);
    return api;
  });
