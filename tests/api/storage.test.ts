import { createClient } from "@supabase/supabase-js";
import { existsSync } from "node:fs";
import { expect } from "vitest";
import { publishableKeys, secretKeys, serviceRoleKey } from "../../local/keys.ts";
import type { Stack } from "../../local/stack.ts";
import { startApi, test } from "../support/api.ts";

const buckets = ({ url }: Stack, key: string) => createClient(url, key).storage;

test("the local stack has Storage, which keeps objects for a secret key and the legacy token", async ({ api }) => {
  for (const key of [secretKeys.default!, serviceRoleKey]) {
    const storage = buckets(api.stack, key);
    expect((await storage.createBucket("kept", { public: false })).error).toBeNull();
    const files = storage.from("kept");
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));
    expect((await files.upload("a/b.bin", bytes)).error).toBeNull();
    expect((await files.upload("a/b.bin", bytes)).error).toMatchObject({ statusCode: "409" });
    expect(new Uint8Array(await (await files.download("a/b.bin")).data!.arrayBuffer())).toEqual(bytes);
    expect((await files.copy("a/b.bin", "a/c.bin")).error).toBeNull();
    expect((await files.info("a/c.bin")).data).toMatchObject({ metadata: { size: 60_000 } });
    expect((await files.remove(["a/b.bin", "a/c.bin", "gone"])).data).toHaveLength(2);
    expect((await files.download("a/b.bin")).error).toMatchObject({ statusCode: "404" });
    expect((await storage.deleteBucket("kept")).error).toBeNull();
  }
});

test("a key that nobody has given is refused, and a publishable one can neither make a bucket nor see what is in one", async ({ api }) => {
  const [own, others] = [buckets(api.stack, secretKeys.default!), buckets(api.stack, publishableKeys.default!)];
  await own.createBucket("private");
  await own.from("private").upload("object", new Uint8Array(1));
  expect((await buckets(api.stack, "sb_secret_of_nobody").listBuckets()).error).toMatchObject({ statusCode: "403" });
  expect((await others.createBucket("mine")).error).toMatchObject({ statusCode: "403" });
  expect((await others.from("private").download("object")).error).toMatchObject({ statusCode: "404" });
  expect((await others.from("private").upload("other", new Uint8Array(1))).error).not.toBeNull();
});

test("an object beyond the limit is refused, and a stack's own folder is gone at its end", async () => {
  const { stack, stop } = await startApi("with_product", { fileSizeLimit: "1KiB" });
  const storage = buckets(stack, secretKeys.default!);
  await storage.createBucket("small");
  expect((await storage.from("small").upload("fits", new Uint8Array(1024))).error).toBeNull();
  expect((await storage.from("small").upload("does-not", new Uint8Array(1025))).error)
    .toMatchObject({ statusCode: "413" });
  expect(existsSync(stack.storageFolder)).toBe(true);
  await stop();
  expect(existsSync(stack.storageFolder)).toBe(false);
});
