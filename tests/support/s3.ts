import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import type { S3Target } from "../../supabase/functions/migration-guard/environment.ts";
import { type FaultyProxy, startFaultyProxy } from "./faulty-proxy.ts";

/** An S3 server with one bucket, behind a {@link FaultyProxy}. */
export type S3 = FaultyProxy & {
  /** How to reach its bucket. */
  target: S3Target;
  /** Lets requests without credentials do what they want: all of it, only lists, only objects, or nothing. */
  open: (what: "all" | "list" | "objects" | "nothing") => void;
  /** Whether it heeds `if-none-match`, ignores it, or refuses such a request: each is to be found among real stores. */
  conditionalWrites: (how: "heeded" | "ignored" | "refused") => void;
  /** Removes the bucket and what is in it. */
  removeBucket: () => Promise<void>;
  createBucket: () => Promise<void>;
};

// The package has no types: these are of what is used of it.
type S3Object = { bucket: string; key: string; content: Readable };
type Store = {
  existsObject: (bucket: string, key: string) => Promise<boolean>;
  putObject: (object: S3Object) => Promise<unknown>;
  putBucket: (bucket: string) => Promise<unknown>;
};
type Context = {
  method: string;
  path: string;
  headers: Record<string, string | undefined>;
  query: Record<string, string>;
  store: Store;
};
type Server = {
  store: Store;
  middleware: ((context: Context, next: () => Promise<void>) => Promise<void>)[];
  run: () => Promise<{ port: number }>;
  close: () => Promise<void>;
  httpServer: { closeAllConnections: () => void };
};
const require = createRequire(import.meta.url);
const S3rver = require("@20minutes/s3rver") as new (options: unknown) => Server;
const S3Error = require("@20minutes/s3rver/lib/models/error.js") as new (code: string, message: string) => Error;
const { DUMMY_ACCOUNT } = require("@20minutes/s3rver/lib/models/account.js") as {
  DUMMY_ACCOUNT: { createKeyPair: (id: string, secret: string) => void };
};

const bucket = "exports";
const key = { accessKeyId: "AKIA0TEST0KEY", secretAccessKey: "test/secret+key" };

/**
 * Starts the S3 server of `@20minutes/s3rver`, which checks signatures, and adds what it leaves out: that a request has a signature
 * at all, that a body is what was signed, and conditional writes.
 */
export async function startS3(): Promise<S3> {
  const directory = mkdtempSync(join(tmpdir(), "migration-guard-s3-"));
  DUMMY_ACCOUNT.createKeyPair(key.accessKeyId, key.secretAccessKey);
  const options = { address: "127.0.0.1", port: 0, silent: true, directory, vhostBuckets: false };
  const server = new S3rver({ ...options, configureBuckets: [{ name: bucket }] });
  let isOpen = "nothing";
  let conditions = "heeded";

  const { store } = server;
  const putObject = async (object: S3Object, headers: Context["headers"]) => {
    if (headers["if-none-match"] === "*" && conditions === "heeded") {
      if (await store.existsObject(object.bucket, object.key)) {
        throw new S3Error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold");
      }
    }
    const body = await buffer(object.content);
    const hash = createHash("sha256").update(body).digest();
    const signed = headers["x-amz-content-sha256"] ?? "";
    const sum = headers["x-amz-checksum-sha256"];
    if (/^[0-9a-f]{64}$/.test(signed) && signed !== hash.toString("hex") || sum && sum !== hash.toString("base64")) {
      throw new S3Error("BadDigest", "The SHA-256 that you specified did not match what was received.");
    }
    // A stream, since the package would answer before a Buffer is written.
    return store.putObject({ ...object, content: Readable.from([body]) });
  };
  server.middleware.unshift(async (context, next) => {
    if (!context.headers.authorization && !("X-Amz-Signature" in context.query)) {
      const isList = context.path.split("/").filter(Boolean).length < 2;
      if (isOpen !== "all" && isOpen !== (isList ? "list" : "objects")) {
        throw new S3Error("AccessDenied", "Access Denied");
      }
    }
    if (context.headers["if-none-match"] && conditions === "refused") {
      throw new S3Error("NotImplemented", "A header you provided implies functionality that is not implemented");
    }
    const guarded = (object: S3Object) => putObject(object, context.headers);
    context.store = Object.create(store, { putObject: { value: guarded } });
    await next();
  });
  const { port } = await server.run();
  const proxy = await startFaultyProxy(`http://127.0.0.1:${port}`, (status, code) => ({
    type: "application/xml",
    text: `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${status}: no ${
      "details ".repeat(20)
    }</Message></Error>`,
  }));
  return {
    ...proxy,
    target: { endpoint: proxy.url, region: "us-east-1", bucket, ...key, prefix: "" },
    open: (what) => {
      isOpen = what;
    },
    conditionalWrites: (how) => {
      conditions = how;
    },
    removeBucket: () => {
      rmSync(join(directory, bucket), { recursive: true, force: true });
      return Promise.resolve();
    },
    createBucket: async () => {
      await store.putBucket(bucket);
    },
    stop: async () => {
      await proxy.stop();
      server.httpServer.closeAllConnections();
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
