/** Longest time that a request may ask to wait, in seconds; the platform ends a request without an answer at 150. */
export const longestWait = 120;

/**
 * Seconds that `Prefer: wait=SECONDS` asks for (RFC 7240), at most {@link longestWait}; 0 where the header says nothing of it.
 *
 * @example
 * ```ts
 * waitSeconds("respond-async, wait=10"); // 10
 * ```
 */
export function waitSeconds(prefer: string | undefined): number {
  const seconds = prefer?.match(/(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])/i)?.[1];
  return Math.min(Number(seconds ?? 0), longestWait);
}
