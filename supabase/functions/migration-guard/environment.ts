import type { JSONWebKeySet } from "jose";
import { z } from "zod";

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
};

const json = <T extends z.ZodType>(schema: T) =>
  z.string().default("").transform((text, context) => {
    try {
      return text === "" ? {} : JSON.parse(text) as unknown;
    } catch {
      context.addIssue({ code: "custom", message: "is not JSON" });
      return z.NEVER;
    }
  }).pipe(schema);

/** Keys by name; one that is empty is no key. */
const keys = json(
  z.record(z.string(), z.string()).transform((byName) =>
    Object.fromEntries(Object.entries(byName).filter(([, key]) => key !== ""))
  ),
);

/** The driver decodes user and password, which fails where a `%` stands for itself. */
const isDecodable = (url: string) => {
  try {
    return decodeURIComponent(url) !== "";
  } catch {
    return false;
  }
};

/** The form that the Standard Webhooks specification gives a symmetric secret. */
const isWebhookSecret = (text: string) => {
  const [, base64] = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text) ?? [];
  if (base64 === undefined || base64.length % 4 !== 0) return false;
  const bytes = atob(base64).length;
  return bytes >= 24 && bytes <= 64;
};

/** `*`, or what browsers send as `Origin`, with commas between. */
const origins = z.string().default("").transform((text, context): string[] | "*" => {
  if (text.trim() === "*") return "*";
  const list = text.split(",").map((origin) => origin.trim()).filter((origin) => origin !== "");
  if (list.every((origin) => URL.canParse(origin) && new URL(origin).origin === origin)) return list;
  context.addIssue({
    code: "custom",
    message: "is * alone, or origins with commas between, each of scheme, host and port if need be, without a path",
  });
  return z.NEVER;
});

const variables = z.object({
  SUPABASE_URL: z.url(),
  SUPABASE_DB_URL: z.url().refine(isDecodable, "has a % that is not percent-encoded"),
  SUPABASE_SECRET_KEYS: keys,
  SUPABASE_PUBLISHABLE_KEYS: keys,
  SUPABASE_SERVICE_ROLE_KEY: z.string().optional(),
  SUPABASE_JWKS: json(z.union([
    z.object({ keys: z.array(z.looseObject({ kty: z.string() })) }),
    z.array(z.looseObject({ kty: z.string() })).transform((list) => ({ keys: list })),
    z.object({}).transform(() => ({ keys: [] })),
  ])),
  MIGRATION_GUARD_WEBHOOK_SECRET: z.string().refine(isWebhookSecret, "is whsec_ and 24 to 64 bytes in base64")
    .optional(),
  MIGRATION_GUARD_ALLOW_PRIVATE_WEBHOOKS: z.enum(["true", "false"]).default("false"),
  ALLOWED_ORIGINS: origins,
});

/**
 * Reads the environment through `get`.
 *
 * @throws When a variable is missing or malformed: names it, and never shows its value.
 */
export function readEnvironment(get: (name: string) => string | undefined): Environment {
  const names = Object.keys(variables.shape);
  const parsed = variables.safeParse(Object.fromEntries(names.map((name) => [name, get(name) || undefined])));
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    throw new Error(`The function's environment is not complete. ${faults.join("; ")}`);
  }
  const { data } = parsed;
  return {
    url: data.SUPABASE_URL.replace(/\/$/, ""),
    databaseUrl: data.SUPABASE_DB_URL,
    secretKeys: data.SUPABASE_SECRET_KEYS,
    publishableKeys: data.SUPABASE_PUBLISHABLE_KEYS,
    serviceRoleKey: data.SUPABASE_SERVICE_ROLE_KEY,
    jwks: data.SUPABASE_JWKS,
    webhooks: {
      secret: data.MIGRATION_GUARD_WEBHOOK_SECRET,
      allowPrivate: data.MIGRATION_GUARD_ALLOW_PRIVATE_WEBHOOKS === "true",
    },
    allowedOrigins: data.ALLOWED_ORIGINS,
  };
}
