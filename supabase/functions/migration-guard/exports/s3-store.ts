import { AwsClient } from "aws4fetch";
import type { S3Target } from "../environment.ts";
import { assertObjectName } from "./assert-object-name.ts";
import { isStored } from "./is-stored.ts";
import { isTransientStatus } from "./is-transient-status.ts";
import { type ObjectStore, ObjectStoreError, type ObjectStoreErrorCode } from "./object-store.ts";
import { readBytes } from "./read-bytes.ts";
import { sha256 } from "./sha256.ts";
import { tryAgain, type TryOptions } from "./try-again.ts";

/** Object by which a bucket is tried out; it stays there. */
const probeName = "migration-guard-probe";
const probe = new TextEncoder().encode(
  "Written by Migration Guard to see whether this bucket can be used, and is private.\n",
);
/** Bytes of an error's answer that are looked at: its code is near the beginning. */
const errorLimit = 16_384;
/** Requests under way at a time when objects are removed. */
const removedAtOnce = 8;

type Sent = {
  method: "DELETE" | "GET" | "HEAD" | "PUT";
  name: string;
  body?: Uint8Array<ArrayBuffer>;
  headers?: Record<string, string>;
  signal?: AbortSignal;
};

/**
 * A bucket of a store that speaks S3, with signature version 4 and the bucket's name in the path. Of the key it wants
 * `s3:PutObject`, `s3:GetObject` and, to remove, `s3:DeleteObject`; without `s3:ListBucket` AWS says of an object that is missing that
 * access is denied. Where the bucket keeps versions, what is removed is hidden, and stays until the bucket's own rules remove it.
 */
export function s3Store(target: string, s3: S3Target, options: TryOptions = {}): ObjectStore {
  const bucketUrl = `${s3.endpoint}/${s3.bucket}`;
  const urlOf = (name: string) => `${bucketUrl}/${s3.prefix}${name}`;
  const client = new AwsClient({
    accessKeyId: s3.accessKeyId,
    secretAccessKey: s3.secretAccessKey,
    sessionToken: s3.sessionToken,
    region: s3.region,
    service: "s3",
    retries: 0,
  });

  /** Sends a request until it is answered; `read` may read the answer's body, which is left unread otherwise. */
  const send = <T>({ name, signal, ...init }: Sent, read: (answer: Response) => T | Promise<T>) =>
    tryAgain({ ...options, target, object: name, signal }, async (signal) => {
      // A redirect leads to where the signature is not valid.
      const answer = await client.fetch(urlOf(name), { ...init, signal, redirect: "manual" });
      try {
        return await read(answer);
      } finally {
        if (!answer.bodyUsed) await answer.body?.cancel();
      }
    });

  async function refusal(answer: Response, object: string): Promise<ObjectStoreError> {
    const { status } = answer;
    const text = new TextDecoder().decode(await readBytes(answer.body, errorLimit));
    const code = /<Code>([A-Za-z0-9_.-]{1,64})<\/Code>/.exec(text)?.[1];
    const about = { target, object, detail: code ? `${status} ${code}` : String(status) };
    const isTransient = isTransientStatus(status) || transientCodes.includes(code ?? "");
    return new ObjectStoreError(codeOf(status, code), about, isTransient);
  }

  async function prepare(signal?: AbortSignal) {
    await put(probeName, probe, signal).catch((error) => {
      // The text of another version.
      if (error.code !== "object_exists") throw error;
    });
    // A policy may open the objects, the list of their names, or both. What is not seen: a second address that serves the bucket to
    // anybody, as some stores give it.
    for (const url of [urlOf(probeName), `${bucketUrl}?list-type=2&max-keys=1`]) {
      if (await isPublic(url, signal)) throw new ObjectStoreError("bucket_public", { target });
    }
  }

  /** Whether a request without credentials is answered with what it asks for. */
  const isPublic = (url: string, signal?: AbortSignal) =>
    tryAgain({ ...options, target, signal }, async (signal) => {
      const answer = await fetch(url, { signal, redirect: "manual" });
      await answer.body?.cancel();
      if (!isTransientStatus(answer.status)) return answer.ok;
      throw new ObjectStoreError("store_failed", { target, detail: String(answer.status) }, true);
    });

  async function put(name: string, bytes: Uint8Array, signal?: AbortSignal) {
    assertObjectName(target, name);
    const body = bytes as Uint8Array<ArrayBuffer>;
    // Asked first for the sake of the stores that have no conditional writes.
    const size = await sizeOf(name, signal);
    if (size === undefined && await write(name, body, true, signal)) return;
    const isSameSize = size === undefined || size === body.length;
    if (isSameSize && await isStored({ get }, name, body, signal)) return;
    throw new ObjectStoreError("object_exists", { target, object: name });
  }

  /** Size of the object of that name; nothing where there is none, or the store does not tell. */
  const sizeOf = (name: string, signal?: AbortSignal) =>
    send({ method: "HEAD", name, signal }, async (answer) => {
      if (answer.ok) return Number(answer.headers.get("content-length"));
      if (isTransientStatus(answer.status)) throw await refusal(answer, name);
      return undefined;
    });

  /** Whether it was stored; false when the name is taken. */
  async function write(
    name: string,
    body: Uint8Array<ArrayBuffer>,
    isConditional: boolean,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const headers = {
      "content-type": "application/octet-stream",
      "x-amz-content-sha256": sha256(body),
      ...(isConditional ? { "if-none-match": "*" } : {}),
    };
    const outcome = await send({ method: "PUT", name, body, headers, signal }, async (answer) => {
      if (answer.ok) return "stored";
      if (answer.status === 412) return "taken";
      // Some stores have no conditional writes, and refuse them; others ignore the condition.
      if (answer.status === 501 && isConditional) return "unconditional";
      throw await refusal(answer, name);
    });
    return outcome === "unconditional" ? write(name, body, false, signal) : outcome === "stored";
  }

  async function get(name: string, limit: number, signal?: AbortSignal) {
    assertObjectName(target, name);
    return await send({ method: "GET", name, signal }, async (answer) => {
      if (!answer.ok) throw await refusal(answer, name);
      const bytes = await readBytes(answer.body, limit);
      if (bytes) return bytes;
      throw new ObjectStoreError("object_too_large", { target, object: name, detail: `more than ${limit} bytes` });
    });
  }

  async function remove(names: string[], signal?: AbortSignal) {
    for (const name of names) assertObjectName(target, name);
    for (let first = 0; first < names.length; first += removedAtOnce) {
      await Promise.all(names.slice(first, first + removedAtOnce).map((name) => removeOne(name, signal)));
    }
  }

  const removeOne = (name: string, signal?: AbortSignal) =>
    send({ method: "DELETE", name, signal }, async (answer) => {
      if (answer.ok) return;
      const error = await refusal(answer, name);
      if (error.code !== "object_missing") throw error;
    });

  return { target, location: `${bucketUrl}/${s3.prefix}`.replace(/\/$/, ""), prepare, put, get, remove };
}

/** What passes although its status does not say so: a body that arrived damaged, or too slowly, or together with another write. */
const transientCodes = [
  ...["BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"],
  ...["ConditionalRequestConflict", "OperationAborted"],
];

/** Codes that come with the status 400, and are about the key or the signature. */
const deniedCodes = ["AuthorizationHeaderMalformed", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"];

function codeOf(status: number, code = ""): ObjectStoreErrorCode {
  // Each kind of store has its own: QuotaExceeded, XMinioStorageFull, XMinioAdminBucketQuotaExceeded, …
  if (status === 507 || /quota|storagefull|capexceeded/i.test(code)) return "store_full";
  if (code === "NoSuchBucket") return "bucket_missing";
  if (status === 401 || status === 403 || deniedCodes.includes(code)) return "store_denied";
  if (status === 404) return "object_missing";
  if (status === 413 || code === "EntityTooLarge") return "object_too_large";
  return "store_failed";
}
