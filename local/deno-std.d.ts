// `deno-std` on npm brings no types: these are the few functions that the project uses of it, as Deno documents them.

declare module "deno-std/async/delay.js" {
  export function delay(milliseconds: number, options?: { signal?: AbortSignal; persistent?: boolean }): Promise<void>;
}

declare module "deno-std/async/deadline.js" {
  /** Rejects with a `TimeoutError` when the promise is not settled in time. */
  export function deadline<T>(promise: Promise<T>, milliseconds: number): Promise<T>;
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
