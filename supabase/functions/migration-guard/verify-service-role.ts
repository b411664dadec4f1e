import { createLocalJWKSet, decodeProtectedHeader, errors, importJWK, type JSONWebKeySet, jwtVerify } from "jose";
import { isSameSecret } from "./is-same-secret.ts";
import { Problem } from "./problems.ts";

/** Who has issued the legacy keys of a project, and those of the local stack. */
const legacyIssuers = ["supabase", "supabase-demo"];

/**
 * Accepts the project's legacy `service_role` token, and any token that the project's keys have signed for that role. Projects
 * may share a key: a token that says who has issued it is held to that.
 *
 * @param url Base URL of the project, whose Auth issues its tokens.
 * @throws {Problem} `invalid_credentials`, `expired_token`, or `service_role_required` for another role's token.
 */
export async function verifyServiceRole(
  token: string,
  { url, serviceRoleKey, jwks }: { url: string; serviceRoleKey?: string; jwks: JSONWebKeySet },
): Promise<void> {
  if (serviceRoleKey && await isSameSecret(token, serviceRoleKey)) return;

  const claims = await verify(token, jwks).catch((error) => {
    if (error instanceof errors.JWTExpired) {
      throw new Problem("expired_token", { detail: "The token has expired: sign in again, or send a secret key." });
    }
    throw notOfThisProject();
  });
  if (claims.iss !== undefined && ![`${url}/auth/v1`, ...legacyIssuers].includes(claims.iss)) throw notOfThisProject();
  if (claims.role !== "service_role") {
    throw new Problem("service_role_required", {
      detail: "The token is a user's: send a secret key, or a service_role token.",
    });
  }
}

const notOfThisProject = () =>
  new Problem("invalid_credentials", { detail: "The token is not one of this project's." });

/** Claims of a token, after its signature and its times were checked. */
async function verify(token: string, jwks: JSONWebKeySet) {
  const { alg, kid } = decodeProtectedHeader(token);
  if (alg !== "HS256") return (await jwtVerify(token, createLocalJWKSet(jwks))).payload;
  // A shared secret is in the set too while a project still signs with it; jose's set takes public keys only.
  const secret = jwks.keys.find((key) => key.kty === "oct" && (!kid || !key.kid || key.kid === kid));
  if (!secret) throw new errors.JWKSNoMatchingKey();
  return (await jwtVerify(token, await importJWK(secret, "HS256"), { algorithms: ["HS256"] })).payload;
}
