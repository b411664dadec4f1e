import type { JSONWebKeySet } from "jose";
import { parseIdentities } from "./exports/parse-identities.ts";

/** What the platform gives a function through its environment, and what may be set besides. */
export type Environment = {
  /** Base URL of the project. */
  url: string;
  /** Connection URL of the database: direct, or through a pooler. */
  databaseUrl: string;
  /** Secret keys by name; the name is the actor. */
  secretKeys: Record<string, string>;
  publishableKeys: Record<string, string>;
  /** The legacy `service_role` token, where the project has one. */
  serviceRoleKey?: string;
  /** Keys that the project's tokens are signed with. */
  jwks: JSONWebKeySet;
  webhooks: {
    /** What webhooks are signed with, `whsec_…`; without it none is sent. */
    secret?: string;
    /** Whether a webhook may go to a private network or to the machine itself: so on the local stack alone. */
    allowPrivate: boolean;
  };
  /** Origins whose pages a browser lets call the function: none, unless they are named. */
  allowedOrigins: string[] | "*";
  exports: {
    /** age identities that open encrypted exports; without one, these can be made, and not be read. */
    identities: string[];
  };
};

/** What is wrong with the text of a variable, without the text. */
class Fault extends Error {}

function json(text: string): unknown {
  try {
    return text === "" ? {} : JSON.parse(text);
  } catch {
    throw new Fault("is not JSON");
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Keys by name; one that is empty is no key. */
function keys(text: string): Record<string, string> {
  const byName = json(text);
  if (!isObject(byName)) throw new Fault("is no object");
  const entries = Object.entries(byName).map(([name, key]): [string, string] => {
    if (typeof key !== "string") throw new Fault("has a key that is no text");
    return [name, key];
  });
  return Object.fromEntries(entries.filter(([, key]) => key !== ""));
}

/** A set of keys, or the bare list of them; an object without a list has none. */
function keySet(text: string): JSONWebKeySet {
  const set = json(text);
  const isList = (list: unknown): list is JSONWebKeySet["keys"] =>
    Array.isArray(list) && list.every((key) => isObject(key) && typeof key.kty === "string");
  if (isList(set)) return { keys: set };
  if (!isObject(set)) throw new Fault("is no set of keys");
  return { keys: isList(set.keys) ? set.keys : [] };
}

function url(text: string): string {
  if (text === "") throw new Fault("is missing");
  if (!URL.canParse(text)) throw new Fault("is no URL");
  return text;
}

/** The driver decodes user and password, which fails where a `%` stands for itself. */
function decodableUrl(text: string): string {
  try {
    decodeURIComponent(text);
  } catch {
    throw new Fault("has a % that is not percent-encoded");
  }
  return url(text);
}

/** The form that the Standard Webhooks specification gives a symmetric secret. */
function webhookSecret(text: string): string | undefined {
  if (text === "") return undefined;
  const [, base64] = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text) ?? [];
  const bytes = base64 === undefined || base64.length % 4 !== 0 ? 0 : atob(base64).length;
  if (bytes < 24 || bytes > 64) throw new Fault("is whsec_ and 24 to 64 bytes in base64");
  return text;
}

function isTrue(text: string): boolean {
  if (!["", "true", "false"].includes(text)) throw new Fault("is true or false");
  return text === "true";
}

/** `*`, or what browsers send as `Origin`, with commas between. */
function origins(text: string): string[] | "*" {
  if (text.trim() === "*") return "*";
  const list = text.split(",").map((origin) => origin.trim()).filter((origin) => origin !== "");
  if (list.every((origin) => URL.canParse(origin) && new URL(origin).origin === origin)) return list;
  throw new Fault(
    "is * alone, or origins with commas between, each of scheme, host and port if need be, without a path",
  );
}

function identities(text: string): string[] {
  const list = parseIdentities(text);
  if (list === undefined) {
    throw new Fault(
      "is AGE-SECRET-KEY-1… or AGE-SECRET-KEY-PQ-1…, or several with blanks, line ends or commas between",
    );
  }
  return list;
}

/**
 * Reads the environment through `get`. By hand, since it is read before anything is answered, and to load zod takes as long as all
 * that is loaded until then.
 *
 * @throws When a variable is missing or malformed: names it, and never shows its value.
 */
export function readEnvironment(get: (name: string) => string | undefined): Environment {
  const faults: string[] = [];
  function read<T>(name: string, parse: (text: string) => T): T {
    try {
      return parse(get(name) ?? "");
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      faults.push(`${name}: ${error.message}`);
      return undefined as T;
    }
  }
  const environment: Environment = {
    url: read("SUPABASE_URL", (text) => url(text).replace(/\/$/, "")),
    databaseUrl: read("SUPABASE_DB_URL", decodableUrl),
    secretKeys: read("SUPABASE_SECRET_KEYS", keys),
    publishableKeys: read("SUPABASE_PUBLISHABLE_KEYS", keys),
    serviceRoleKey: get("SUPABASE_SERVICE_ROLE_KEY") || undefined,
    jwks: read("SUPABASE_JWKS", keySet),
    webhooks: {
      secret: read("MIGRATION_GUARD_WEBHOOK_SECRET", webhookSecret),
      allowPrivate: read("MIGRATION_GUARD_ALLOW_PRIVATE_WEBHOOKS", isTrue),
    },
    allowedOrigins: read("ALLOWED_ORIGINS", origins),
    exports: { identities: read("EXPORT_AGE_IDENTITIES", identities) },
  };
  if (faults.length > 0) throw new Error(`The function's environment is not complete. ${faults.join("; ")}`);
  return environment;
}
