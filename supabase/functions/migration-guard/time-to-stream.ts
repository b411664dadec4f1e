/** Longest time of a stream, in milliseconds: a client that has lost its server without noticing comes back after it. */
const longest = 120_000;

/** Age in milliseconds at which the platform's free plan ends an isolate, whatever it is doing; the other plans do later. */
const endOfIsolate = 150_000;

/** Milliseconds that are kept free: an isolate is a little older than it knows, and the last look at a job takes its time. */
const margin = 10_000;

/**
 * Milliseconds for which an isolate of the given age can stream, so that the platform does not cut it. The platform gives no
 * request to an isolate in the second half of its life: one that gets any then has more time than the free plan's.
 */
export function timeToStream(age: number): number {
  return age < endOfIsolate / 2 ? Math.min(longest, endOfIsolate - margin - age) : longest;
}
