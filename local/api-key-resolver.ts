import type { ApiKeyResolver } from "@supabase/lite";
import { decodeJwt } from "jose";
import { anonKey, publishableKeys, serviceRoleKey } from "./keys.ts";

/**
 * Tells REST and Storage which role a key acts as: a secret key or the legacy token as `service_role`, a publishable key or its
 * legacy token as `anon`.
 */
export function apiKeyResolver(secretKeys: Record<string, string>): (key: string) => ReturnType<ApiKeyResolver> {
  const roles = new Map<string, string>([
    ...Object.values(secretKeys).map((key) => [key, "service_role"] as const),
    ...Object.values(publishableKeys).map((key) => [key, "anon"] as const),
    [serviceRoleKey, "service_role"],
    [anonKey, "anon"],
  ]);
  return (key) => {
    const role = roles.get(key);
    if (!role) return Promise.resolve(null);
    const claims = key.startsWith("sb_") ? { role } : decodeJwt(key);
    return Promise.resolve({ type: role === "anon" ? "publishable" : "secret", claims });
  };
}
