import { concat } from "deno-std/bytes/concat.js";

/**
 * Reads a stream to its end, unless that is more than `limit` bytes.
 *
 * @returns Nothing when it is more; the rest is left unread then.
 */
export async function readBytes(
  stream: ReadableStream<Uint8Array> | null,
  limit: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const parts: Uint8Array[] = [];
  let length = 0;
  // An answer without a body may have no stream. To leave the loop cancels the stream.
  for await (const part of stream ?? []) {
    length += part.length;
    if (length > limit) return undefined;
    parts.push(part);
  }
  return concat(parts);
}
