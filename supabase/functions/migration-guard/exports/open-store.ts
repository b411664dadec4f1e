import { secretKeysOf } from "../clients.ts";
import { type Environment, ownTarget } from "../environment.ts";
import type { ObjectStore } from "./object-store.ts";
import type { TryOptions } from "./try-again.ts";

/**
 * Opens the store of a target: `supabase`, or one that `EXPORT_TARGETS` names. Nothing is asked of it yet. Of the stores' modules
 * the one that is needed is loaded.
 *
 * @returns Nothing when there is no such target; `supabase` is there wherever the project has a secret key.
 */
export async function openStore(
  target: string,
  environment: Environment,
  options: TryOptions = {},
): Promise<ObjectStore | undefined> {
  if (target === ownTarget) {
    const keys = secretKeysOf(environment);
    const secretKey = keys.default ?? Object.values(keys)[0];
    if (secretKey === undefined) return undefined;
    const { supabaseStore } = await import("./supabase-store.ts");
    return supabaseStore({ url: environment.url, secretKey, ...options });
  }
  // Object.hasOwn: `constructor` is the name of no target.
  if (!Object.hasOwn(environment.exports.targets, target)) return undefined;
  const { s3Store } = await import("./s3-store.ts");
  return s3Store(target, environment.exports.targets[target]!, options);
}
