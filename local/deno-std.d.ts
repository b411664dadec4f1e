// `deno-std` on npm brings no types: these are the few functions that the project uses of it, as Deno documents them.

declare module "deno-std/async/delay.js" {
  export function delay(milliseconds: number, options?: { signal?: AbortSignal; persistent?: boolean }): Promise<void>;
}

declare module "deno-std/async/deadline.js" {
  /** Rejects with a `TimeoutError` when the promise is not settled in time. */
  export function deadline<T>(promise: Promise<T>, milliseconds: number): Promise<T>;
}

declare module "deno-std/async/retry.js" {
  /** Thrown when the last attempt failed, too: `cause` is what it threw. */
  export class RetryError extends Error {
    constructor(cause: unknown, attempts: number);
  }
  /** Calls a function until it does not throw, with random pauses that grow; milliseconds. */
  export function retry<T>(
    fn: () => Promise<T>,
    options: {
      maxAttempts?: number;
      minTimeout?: number;
      maxTimeout?: number;
      isRetriable?: (error: unknown) => boolean;
      signal?: AbortSignal;
    },
  ): Promise<T>;
}

declare module "deno-std/bytes/concat.js" {
  export function concat(parts: Uint8Array[]): Uint8Array<ArrayBuffer>;
}

declare module "deno-std/bytes/equals.js" {
  export function equals(a: Uint8Array, b: Uint8Array): boolean;
}

declare module "deno-std/crypto/timing_safe_equal.js" {
  export function timingSafeEqual(a: ArrayBufferView | ArrayBufferLike, b: ArrayBufferView | ArrayBufferLike): boolean;
}

declare module "deno-std/toml/parse.js" {
  export function parse(toml: string): Record<string, unknown>;
}

declare module "deno-std/text/levenshtein_distance.js" {
  /** How many letters must be added, removed or replaced to make one text of the other. */
  export function levenshteinDistance(a: string, b: string): number;
}

declare module "deno-std/encoding/hex.js" {
  export function encodeHex(bytes: Uint8Array): string;
}

declare module "deno-std/http/negotiation.js" {
  /** The best of the types for the header `Accept` of a request: the first where it has none, none where it admits none. */
  export function accepts<T extends string>(request: Pick<Request, "headers">, ...types: T[]): T | undefined;
}

declare module "deno-std/fmt/bytes.js" {
  /** Such as `1.34 kB`. */
  export function format(bytes: number): string;
}

declare module "deno-std/fmt/duration.js" {
  /** Such as `1m 39s`; `ignoreZero` leaves out what is 0. */
  export function format(milliseconds: number, options?: { ignoreZero?: boolean }): string;
}
