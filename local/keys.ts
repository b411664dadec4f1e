import { importJWK, type JWTPayload, SignJWT } from "jose";

// The keys of every `supabase start` on every developer's machine: published, the same everywhere, and of no use
// anywhere else. A runbook that was tried with them works there unchanged.

/** HMAC secret of the legacy keys. */
export const jwtSecret = "super-secret-jwt-token-with-at-least-32-characters-long";

/** Private key that user tokens are signed with. */
const signingKey = {
  kty: "EC",
  kid: "b81269f1-21d8-4f2e-b719-c2240a840d90",
  use: "sig",
  alg: "ES256",
  crv: "P-256",
  x: "M5Sjqn5zwC9Kl1zVfUUGvv9boQjCGd45G8sdopBExB4",
  y: "P6IXMvA2WYXSHSOMTBH2jsw_9rrzGy89FjPf6oOsIxQ",
  d: "dIhR8wywJlqlua4y_yMq2SLhlFXDZJBCvFrY1DCHyVU",
} as const;

const { d: _private, ...publicKey } = signingKey;

/** What `SUPABASE_JWKS` holds: the public half of the signing key, and the legacy secret. */
export const jwks = {
  keys: [
    { ...publicKey, key_ops: ["verify"] },
    { kty: "oct", alg: "HS256", k: Buffer.from(jwtSecret).toString("base64url") },
  ],
};

export const publishableKeys = { default: "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH" };
export const secretKeys = { default: "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz" };

/** What the local stack signs webhooks with. */
export const webhookSecret = "whsec_bWlncmF0aW9uLWd1YXJkLWxvY2FsLXdlYmhvb2tz";

/** A legacy API key: a token that is nothing but a role, signed with the shared secret. */
export function signLegacyToken(payload: JWTPayload): Promise<string> {
  return new SignJWT(payload).setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .sign(new TextEncoder().encode(jwtSecret));
}

/** A token as the platform's Auth signs it, with the asymmetric key of the JWKS. */
export async function signToken(payload: JWTPayload): Promise<string> {
  return new SignJWT(payload)
    .setProtectedHeader({ alg: "ES256", kid: signingKey.kid, typ: "JWT" })
    .sign(await importJWK(signingKey, "ES256"));
}

const demo = { iss: "supabase-demo", exp: 1983812996 };
export const anonKey = await signLegacyToken({ iss: demo.iss, role: "anon", exp: demo.exp });
export const serviceRoleKey = await signLegacyToken({ iss: demo.iss, role: "service_role", exp: demo.exp });
