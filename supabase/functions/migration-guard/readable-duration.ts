import { format } from "deno-std/fmt/duration.js";

/** A duration in whole seconds, such as `1m 39s`. */
export const readableDuration = (seconds: number): string =>
  format(Math.round(seconds) * 1000, { ignoreZero: true }) || "0s";
