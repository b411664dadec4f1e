import { ObjectStoreError } from "./object-store.ts";

/** S3 takes keys of 1024 bytes, of which a prefix may want a part. */
const maxLength = 512;

/**
 * Refuses a name that is anything but letters, digits, `.`, `_` and `-`, with `/` between: names come from manifests, too, and must
 * not lead anywhere else, nor mean something else to another store.
 *
 * @throws {ObjectStoreError} `invalid_object_name`; the name is not repeated.
 */
export function assertObjectName(target: string, name: string): void {
  const isSegment = (text: string) => /^[A-Za-z0-9._-]+$/.test(text) && text !== "." && text !== "..";
  if (name.length > maxLength || !name.split("/").every(isSegment)) {
    throw new ObjectStoreError("invalid_object_name", { target });
  }
}
