import type { Context } from "hono";
import { routePath } from "hono/route";
import type { AppEnv } from "./app.ts";
import { versionPattern } from "./version-pattern.ts";

/** The path as `/openapi.json` has it; null for one that does not exist, which may be anything. */
export function pathPattern(c: Context<AppEnv>): string | null {
  const path = routePath(c, -1);
  return path.includes("*") ? null : path.replace(/:(\w+)/g, "{$1}");
}

/** The version that a request is about, in the spelling of the jobs. */
export function versionOf(c: Context<AppEnv>): string | null {
  const body = c.req.valid("json" as never) as { version?: unknown } | undefined;
  const version = /^\/v1\/(?:plans|backups)\/([^/]+)/.exec(c.req.path)?.[1] ?? body?.version;
  if (typeof version !== "string" || !versionPattern.test(version)) return null;
  return version.replace(/^v\d+$/, "$&.0");
}

/** The job whose id is in the path. */
export function jobIdOf(c: Context<AppEnv>): string | null {
  return /^\/v1\/jobs\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=\/|$)/.exec(c.req.path)?.[1] ?? null;
}

/** The client's address as the gateway gives it; whatever is no address is not passed on. */
export function sourceOf(c: Context<AppEnv>): string | null {
  return /^[0-9A-Fa-f.:]{2,45}(?=\s*(,|$))/.exec(c.req.header("x-forwarded-for") ?? "")?.[0] ?? null;
}

/** What a problem says, where the answer is one. */
export async function problemBody(response: Response): Promise<Record<string, unknown> | null> {
  if (response.headers.get("content-type") !== "application/problem+json") return null;
  return await response.clone().json();
}
