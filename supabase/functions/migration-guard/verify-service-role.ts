import { timingSafeEqual } from "deno-std/crypto/timing_safe_equal.js";
import { createLocalJWKSet, decodeProtectedHeader, errors, importJWK, type JSONWebKeySet, jwtVerify } from "jose";
import { Problem } from "./problems.ts";

/** Whether two secrets are one, in a time that tells nothing of either: not even its length, as digests are compared. */
async function isSameSecret(a: string, b: string): Promise<boolean> {
  const digest = (text: string) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return timingSafeEqual(await digest(a), await digest(b));
}

/**
 * Accepts the project's legacy `service_role` token, and any token that the project's keys have signed for that role.
 *
 * @throws {Problem} `invalid_credentials`, `expired_token`, or `service_role_required` for another role's token.
 */
export async function verifyServiceRole(
  token: string,
  { serviceRoleKey, jwks }: { serviceRoleKey?: string; jwks: JSONWebKeySet },
): Promise<void> {
  if (serviceRoleKey && await isSameSecret(token, serviceRoleKey)) return;

  let role: unknown;
  try {
    role = (await verify(token, jwks)).role;
  } catch (error) {
    if (error instanceof errors.JWTExpired) {
      throw new Problem("expired_token", { detail: "The token has expired: sign in again, or send a secret key." });
    }
    throw new Problem("invalid_credentials", { detail: "The token is not one of this project's." });
  }
  if (role !== "service_role") {
    throw new Problem("service_role_required", {
      detail: "The token is a user's: send a secret key, or a service_role token.",
    });
  }
}

/** Claims of a token, after its signature and its times were checked. */
async function verify(token: string, jwks: JSONWebKeySet) {
  const { alg, kid } = decodeProtectedHeader(token);
  if (alg !== "HS256") return (await jwtVerify(token, createLocalJWKSet(jwks))).payload;
  // A shared secret is in the set too while a project still signs with it; jose's set takes public keys only.
  const secret = jwks.keys.find((key) => key.kty === "oct" && (!kid || !key.kid || key.kid === kid));
  if (!secret) throw new errors.JWKSNoMatchingKey();
  return (await jwtVerify(token, await importJWK(secret, "HS256"), { algorithms: ["HS256"] })).payload;
}
