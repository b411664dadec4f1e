import { createClient, StorageApiError } from "@supabase/supabase-js";
import { ownTarget } from "../environment.ts";
import { assertObjectName } from "./assert-object-name.ts";
import { isStored } from "./is-stored.ts";
import { isTransientStatus } from "./is-transient-status.ts";
import { type ObjectStore, ObjectStoreError, type ObjectStoreErrorCode } from "./object-store.ts";
import { readBytes } from "./read-bytes.ts";
import { tryAgain, type TryOptions } from "./try-again.ts";

/** The bucket of the project's own Storage that exports go to. */
export const exportsBucket = "migration-guard-exports";

const target = ownTarget;
/** Names that one request removes at most; Storage takes a thousand. */
const removedAtOnce = 500;

export type SupabaseStoreOptions = {
  /** Base URL of the project. */
  url: string;
  /** A secret key, or the legacy `service_role` token. */
  secretKey: string;
} & TryOptions;

type Storage = ReturnType<typeof createClient>["storage"];
type Answer<T> = { data: T; error: null } | { data: null; error: Error };

/**
 * The project's own Storage: a private bucket, which nobody but the holders of a secret key can enter as long as no policy on
 * `storage.objects` lets them.
 */
export function supabaseStore({ url, secretKey, ...options }: SupabaseStoreOptions): ObjectStore {
  /** Calls Storage until it answers; each try has a client of its own, since few of its methods take a signal. */
  const ask = <T>(
    { object, signal }: { object?: string; signal?: AbortSignal },
    call: (storage: Storage) => PromiseLike<Answer<T>>,
  ) =>
    tryAgain({ ...options, target, object, signal }, async (signal) => {
      const { storage } = createClient(url, secretKey, {
        auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
        global: { fetch: (input, init) => fetch(input, { ...init, signal }) },
      });
      const { data, error } = await call(storage);
      if (error instanceof StorageApiError) throw storeError(error, object);
      // Nothing was answered: this has the error of `fetch`, if any.
      if (error) throw (error as { originalError?: unknown }).originalError ?? error;
      return data as NonNullable<T>;
    });

  async function prepare(signal?: AbortSignal) {
    const find = () => ask({ signal }, (storage) => storage.getBucket(exportsBucket));
    const create = () => ask({ signal }, (storage) => storage.createBucket(exportsBucket, { public: false }));
    const bucket = await find().catch(async (error) => {
      if (error.code !== "bucket_missing") throw error;
      await create().catch((error) => {
        // Somebody else has created it meanwhile, or an answer was lost.
        if (error.code !== "object_exists") throw error;
      });
      return find();
    });
    if (bucket.public) throw new ObjectStoreError("bucket_public", { target });
  }

  async function put(name: string, body: Uint8Array, signal?: AbortSignal) {
    assertObjectName(target, name);
    // No copy is to stay in a cache when the object has been removed.
    const fileOptions = { contentType: "application/octet-stream", cacheControl: "0", upsert: false };
    try {
      await ask({ object: name, signal }, (storage) => storage.from(exportsBucket).upload(name, body, fileOptions));
    } catch (error) {
      const isTaken = error instanceof ObjectStoreError && error.code === "object_exists";
      if (!isTaken || !await isStored({ get }, name, body, signal)) throw error;
    }
  }

  async function get(name: string, limit: number, signal?: AbortSignal) {
    assertObjectName(target, name);
    return await ask({ object: name, signal }, async (storage) => {
      const { data, error } = await storage.from(exportsBucket).download(name).asStream();
      if (error) return { data: null, error };
      const bytes = await readBytes(data, limit);
      if (bytes) return { data: bytes, error: null };
      throw new ObjectStoreError("object_too_large", { target, object: name, detail: `more than ${limit} bytes` });
    });
  }

  async function remove(names: string[], signal?: AbortSignal) {
    for (const name of names) assertObjectName(target, name);
    for (let first = 0; first < names.length; first += removedAtOnce) {
      const some = names.slice(first, first + removedAtOnce);
      await ask({ signal }, (storage) => storage.from(exportsBucket).remove(some));
    }
  }

  return { target, location: `supabase:${exportsBucket}`, prepare, put, get, remove };
}

function storeError(error: StorageApiError, object?: string): ObjectStoreError {
  const status = statusOf(error);
  const code = /^\w{1,64}$/.test(error.code ?? "") ? ` ${error.code}` : "";
  const about = { target, object, detail: `${status}${code}` };
  return new ObjectStoreError(codeOf(error, status), about, isTransientStatus(status));
}

/** The status that is meant: older versions of Storage answer 400 and have the true one in the body. */
function statusOf({ status, statusCode }: StorageApiError): number {
  const meant = Number(statusCode);
  return status === 400 && meant >= 400 && meant < 600 ? meant : status;
}

function codeOf({ code, message }: StorageApiError, status: number): ObjectStoreErrorCode {
  if (code === "NoSuchBucket" || message === "Bucket not found") return "bucket_missing";
  switch (status) {
    case 401:
    case 403:
      return "store_denied";
    // 402 is what a project answers whose quota is used up.
    case 402:
    case 507:
      return "store_full";
    case 404:
      return "object_missing";
    case 409:
      return "object_exists";
    case 413:
      return "object_too_large";
    default:
      return "store_failed";
  }
}
