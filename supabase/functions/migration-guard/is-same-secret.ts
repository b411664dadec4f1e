import { timingSafeEqual } from "deno-std/crypto/timing_safe_equal.js";

/** Whether two secrets are one, in a time that tells nothing of either: not even its length, as digests are compared. */
export async function isSameSecret(a: string, b: string): Promise<boolean> {
  const digest = (text: string) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return timingSafeEqual(await digest(a), await digest(b));
}
