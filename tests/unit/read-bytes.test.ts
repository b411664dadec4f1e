import { expect, test } from "vitest";
import { readBytes } from "../../supabase/functions/migration-guard/exports/read-bytes.ts";

/** A stream that never ends, in parts of ten bytes. */
function endless() {
  const seen = { parts: 0, isCancelled: false };
  const stream = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(10).fill(seen.parts++)),
    cancel: () => {
      seen.isCancelled = true;
    },
  });
  return { stream, seen };
}

test("a stream that goes on is given up at the first part beyond the limit", async () => {
  const { stream, seen } = endless();
  expect(await readBytes(stream, 35)).toBeUndefined();
  expect(seen.isCancelled).toBe(true);
  // Four were read, and one more may have been asked for ahead.
  expect(seen.parts).toBeLessThanOrEqual(5);
});

test("a stream that ends within the limit is read whole, and so is none", async () => {
  const stream = () => new Blob(["abc", "def"]).stream();
  expect(new TextDecoder().decode(await readBytes(stream(), 6))).toBe("abcdef");
  expect(await readBytes(stream(), 5)).toBeUndefined();
  expect(await readBytes(null, 0)).toEqual(new Uint8Array());
});
