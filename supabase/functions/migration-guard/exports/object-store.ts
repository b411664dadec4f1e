/** A place outside the database that keeps named objects. */
export type ObjectStore = {
  /** Name of the target, as a request gives it. */
  target: string;
  /** Where the objects are, for people: `supabase:migration-guard-exports`, or endpoint, bucket and prefix; no credentials. */
  location: string;
  /**
   * Makes sure that the bucket is there and that nobody sees what is in it but who holds a key. A bucket of the project's own
   * Storage is created where it is missing; one in S3 is not, whose owner decides on region, retention and encryption.
   */
  prepare(signal?: AbortSignal): Promise<void>;
  /**
   * Stores an object, and never overwrites one. The very same bytes under that name count as stored: so they are found when an
   * answer was lost and the upload is tried again.
   */
  put(name: string, body: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Reads an object, and no more than `limit` bytes of what is sent. */
  get(name: string, limit: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
  /** Removes objects; those that are gone already are no error. */
  remove(names: string[], signal?: AbortSignal): Promise<void>;
};

/** What can go wrong with a store, and how it is said. */
const sentences = {
  /** No connection, or no answer in time, however often it was tried. */
  store_unreachable: "the store could not be reached",
  /** It answered with an error of its own, however often it was tried, or with something that is not understood. */
  store_failed: "the store failed",
  store_denied: "the store denied access",
  bucket_missing: "the store has no such bucket",
  bucket_public: "the bucket is public, so that anybody could read what is stored there",
  store_full: "the store is full",
  object_missing: "the store has no such object",
  object_exists: "the store has another object of that name",
  object_too_large: "the object is too large",
  /** The name could lead out of where it belongs. */
  invalid_object_name: "an object cannot have that name",
};

export type ObjectStoreErrorCode = keyof typeof sentences;

/** Why a store did not do what it was asked; the message has the target and the object, and never a credential. */
export class ObjectStoreError extends Error {
  override name = "ObjectStoreError";

  /**
   * @param detail A few words on what was answered: a status, a short code.
   * @param isTransient Whether it is worth another try.
   */
  constructor(
    readonly code: ObjectStoreErrorCode,
    { target, object, detail }: { target: string; object?: string; detail?: string },
    readonly isTransient = false,
  ) {
    const subject = object === undefined ? `Target ${target}` : `Target ${target}, object ${object}`;
    super(`${subject}: ${sentences[code]}${detail ? ` (${detail})` : ""}.`);
  }
}
