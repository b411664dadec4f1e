import { equals } from "deno-std/bytes/equals.js";
import { type ObjectStore, ObjectStoreError } from "./object-store.ts";

/** Whether an object is there with these very bytes, of which no more are read. */
export async function isStored(
  { get }: Pick<ObjectStore, "get">,
  name: string,
  body: Uint8Array,
  signal?: AbortSignal,
): Promise<boolean> {
  try {
    return equals(await get(name, body.length, signal), body);
  } catch (error) {
    if (error instanceof ObjectStoreError && ["object_too_large", "object_missing"].includes(error.code)) return false;
    throw error;
  }
}
