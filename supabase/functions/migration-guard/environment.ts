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
    /** Object stores by name, besides the project's own Storage. */
    targets: Record<string, S3Target>;
    /** age identities that open encrypted exports; without one, these can be made, and not be read. */
    identities: string[];
  };
};

/** A bucket of a store that speaks S3. */
export type S3Target = {
  /** URL without a slash at its end. */
  endpoint: string;
  region: string;
  bucket: string;
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
  /** What the objects' names begin with: empty, or with a slash at its end. */
  prefix: string;
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

/** Name of the project's own Storage among the targets. */
export const ownTarget = "supabase";

/** Fields of a target, each with what its text must look like. */
const targetFields = {
  endpoint: /^https?:/,
  region: /^[A-Za-z0-9-]{1,64}$/,
  bucket: /^[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{1,61}[A-Za-z0-9]$/,
  access_key_id: /^[!-~]+$/,
  secret_access_key: /^[!-~]+$/,
  session_token: /^[!-~]+$/,
  // Segments that begin with neither a dot nor a slash.
  prefix: /^(?![./])(?!.*\/[./])[A-Za-z0-9._/-]{1,256}$/,
};
const optionalFields = ["session_token", "prefix"];

function exportTargets(text: string): Record<string, S3Target> {
  const byName = json(text);
  if (!isObject(byName)) throw new Fault("is no object");
  const entries = Object.entries(byName).map(([name, target]): [string, S3Target] => {
    if (!/^[a-z0-9_-]{1,63}$/.test(name)) throw new Fault("has a name that is not 1 to 63 of a-z, 0-9, _ and -");
    if (name === ownTarget) throw new Fault(`names ${ownTarget}, which is the project's own Storage`);
    if (!isObject(target)) throw new Fault("has a target that is no object");
    return [name, exportTarget(target)];
  });
  return Object.fromEntries(entries);
}

function exportTarget(target: Record<string, unknown>): S3Target {
  if (Object.keys(target).some((field) => !Object.hasOwn(targetFields, field))) {
    throw new Fault(`has a target with a field that is none of ${Object.keys(targetFields).join(", ")}`);
  }
  for (const [field, pattern] of Object.entries(targetFields)) {
    const value = target[field] ?? "";
    if (value === "" && optionalFields.includes(field)) continue;
    if (value === "") throw new Fault(`has a target without ${field}`);
    if (typeof value !== "string" || !pattern.test(value)) throw new Fault(`has a target whose ${field} is malformed`);
  }
  const fields = target as Record<keyof typeof targetFields, string>;
  return {
    endpoint: storeUrl(fields.endpoint),
    region: fields.region,
    bucket: fields.bucket,
    accessKeyId: fields.access_key_id,
    secretAccessKey: fields.secret_access_key,
    sessionToken: fields.session_token || undefined,
    prefix: fields.prefix ? fields.prefix.replace(/\/?$/, "/") : "",
  };
}

/** In the clear data may go to this machine alone; what is no part of an address is more likely a mistake. */
function storeUrl(text: string): string {
  if (!URL.canParse(text)) throw new Fault("has a target whose endpoint is no URL");
  const { protocol, hostname, origin, pathname, username, password, search, hash } = new URL(text);
  if (protocol !== "https:" && !["127.0.0.1", "localhost"].includes(hostname)) {
    throw new Fault("has a target whose endpoint is not https");
  }
  if (username || password || search || hash) {
    throw new Fault("has a target whose endpoint has more than scheme, host, port and path");
  }
  return `${origin}${pathname}`.replace(/\/+$/, "");
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
    exports: {
      targets: read("EXPORT_TARGETS", exportTargets),
      identities: read("EXPORT_AGE_IDENTITIES", identities),
    },
  };
  if (faults.length > 0) throw new Error(`The function's environment is not complete. ${faults.join("; ")}`);
  return environment;
}
