import { encodeHex } from "deno-std/encoding/hex.js";
import type { Job } from "./schemas.ts";

/** The id of what a job is at one moment: two answers of the API with the same job have the same one, from whatever isolate. */
export async function jobStateId(job: Job): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(job)));
  return encodeHex(new Uint8Array(digest, 0, 8));
}
