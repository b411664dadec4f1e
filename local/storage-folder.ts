import type { App } from "@supabase/lite";
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

type StorageAdapter = NonNullable<App["_storageAdapter"]>;

/** Keeps the bytes of the local Storage's objects as files of a folder: one folder a bucket, one file an object. */
export function storageFolder(folder: string): StorageAdapter {
  const pathOf = (bucket: string, key: string) => join(folder, fileName(bucket), fileName(key));
  const getObject = async (bucket: string, key: string) => {
    const path = pathOf(bucket, key);
    const [body, { mtime }] = await Promise.all([readFile(path), stat(path)]);
    return { metadata: metadataOf(body, mtime), httpStatusCode: 200, body };
  };
  const deleteObject = (bucket: string, key: string) => rm(pathOf(bucket, key), { force: true });
  return {
    driver: undefined,
    getObject,
    uploadObject: async (bucket, key, _version, body, contentType, cacheControl) => {
      const bytes = Buffer.from(await new Response(body as BodyInit).arrayBuffer());
      await mkdir(join(folder, fileName(bucket)), { recursive: true });
      await writeFile(pathOf(bucket, key), bytes);
      return metadataOf(bytes, new Date(), contentType, cacheControl);
    },
    deleteObject,
    deleteObjects: async (bucket, keys) => {
      await Promise.all(keys.map((key) => deleteObject(bucket, key)));
    },
    copyObject: async (bucket, key, _version, otherBucket, otherKey) => {
      await mkdir(join(folder, fileName(otherBucket)), { recursive: true });
      await copyFile(pathOf(bucket, key), pathOf(otherBucket, otherKey));
      const { eTag, lastModified } = (await getObject(otherBucket, otherKey)).metadata;
      return { httpStatusCode: 200, eTag, lastModified };
    },
    headObject: async (bucket, key) => (await getObject(bucket, key)).metadata,
    // Images are not transformed here, which alone asks for it.
    privateAssetUrl: () => Promise.resolve(""),
  };
}

/** A name that stays in its folder, whatever a bucket or an object is called. */
const fileName = (text: string) => encodeURIComponent(text).replace(/^\.+/, (dots) => "%2E".repeat(dots.length));

function metadataOf(
  bytes: Buffer,
  lastModified: Date,
  mimetype = "application/octet-stream",
  cacheControl = "no-cache",
) {
  const eTag = `"${createHash("md5").update(bytes).digest("hex")}"`;
  return { cacheControl, contentLength: bytes.length, size: bytes.length, mimetype, lastModified, eTag };
}
