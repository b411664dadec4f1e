import { createClient } from "@supabase/supabase-js";
import { execFile } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { deno, functionDirectory } from "../../local/edge-runtime.ts";
import { publishableKeys, secretKeys, serviceRoleKey } from "../../local/keys.ts";
import { readEnvironment } from "../../supabase/functions/migration-guard/environment.ts";
import type { ObjectStore } from "../../supabase/functions/migration-guard/exports/object-store.ts";
import { openStore } from "../../supabase/functions/migration-guard/exports/open-store.ts";
import { exportsBucket } from "../../supabase/functions/migration-guard/exports/supabase-store.ts";
import type { TryOptions } from "../../supabase/functions/migration-guard/exports/try-again.ts";
import { startApi } from "../support/api.ts";
import { type FaultyProxy, startFaultyProxy } from "../support/faulty-proxy.ts";
import { type S3, startS3 } from "../support/s3.ts";

/** A real store, with what a test must be able to do to it behind the function's back. */
type Subject = {
  target: string;
  network: FaultyProxy;
  /** The function's environment, also with a key that does not open the store. */
  environment: (change?: "wrong key") => Record<string, string>;
  makePublic: (isPublic: boolean) => Promise<void>;
  removeBucket: () => Promise<void>;
  createBucket: () => Promise<void>;
  stop: () => Promise<void>;
};

const wrongSecret = "sb_secret_that_opens_nothing";

async function startSupabase(): Promise<Subject> {
  const { stack, stop } = await startApi("with_product", { fileSizeLimit: "9MiB" });
  const network = await startFaultyProxy(stack.url, (status, code) => ({
    type: "application/json",
    text: JSON.stringify({ statusCode: String(status), code, error: code, message: `no ${"details ".repeat(20)}` }),
  }));
  const { storage } = createClient(stack.url, secretKeys.default!);
  return {
    target: "supabase",
    network,
    environment: (change) => ({
      SUPABASE_URL: network.url,
      SUPABASE_DB_URL: stack.edgeRuntime.env.SUPABASE_DB_URL!,
      SUPABASE_SECRET_KEYS: JSON.stringify(change ? { default: wrongSecret } : secretKeys),
    }),
    makePublic: async (isPublic) => {
      expect((await storage.updateBucket(exportsBucket, { public: isPublic })).error).toBeNull();
    },
    removeBucket: async () => {
      const { data } = await storage.from(exportsBucket).list();
      if (data?.length) await storage.from(exportsBucket).remove(data.map(({ name }) => name));
      expect((await storage.deleteBucket(exportsBucket)).error).toBeNull();
    },
    createBucket: async () => {
      await storage.createBucket(exportsBucket, { public: false });
    },
    stop: async () => {
      await network.stop();
      await stop();
    },
  };
}

/** The function's environment with a target `offsite` in that S3. */
function s3Environment({ target }: S3, change: Record<string, string> = {}): Record<string, string> {
  const { endpoint, region, bucket, accessKeyId, secretAccessKey } = target;
  const offsite = {
    endpoint,
    region,
    bucket,
    access_key_id: accessKeyId,
    secret_access_key: secretAccessKey,
    ...change,
  };
  return {
    SUPABASE_URL: "https://project.supabase.co",
    SUPABASE_DB_URL: "postgresql://postgres@db.project.supabase.co/postgres",
    EXPORT_TARGETS: JSON.stringify({ offsite }),
  };
}

async function startS3Subject(): Promise<Subject> {
  const s3 = await startS3();
  return {
    target: "offsite",
    network: s3,
    environment: (change) => s3Environment(s3, change ? { secret_access_key: wrongSecret } : {}),
    makePublic: (isPublic) => Promise.resolve(s3.open(isPublic ? "all" : "nothing")),
    removeBucket: s3.removeBucket,
    createBucket: s3.createBucket,
    stop: s3.stop,
  };
}

/** Short pauses, so that a test need not wait for what is the same with long ones. */
const hasty = { maxAttempts: 3, pause: 10 };

async function open(target: string, environment: Record<string, string>, options: TryOptions = hasty) {
  return (await openStore(target, readEnvironment((name) => environment[name]), options))!;
}

const random = (length: number) => {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
};

/** What a call failed with. Whatever that is, no key may be in it, and nothing of what a foreign server has said at length. */
async function failure(promise: Promise<unknown>): Promise<{ code: string; message: string }> {
  const error = await promise.then(() => expect.fail("It succeeded."), (error) => error);
  for (const secret of [wrongSecret, secretKeys.default!, "AKIA0TEST0KEY", "test/secret+key", "details"]) {
    expect(`${error.stack} ${JSON.stringify(error)}`).not.toContain(secret);
  }
  return error;
}

describe.for(
  [["Supabase Storage", startSupabase], ["S3", startS3Subject]] as const,
)("%s", ([, start]) => {
  let subject: Subject;
  let network: FaultyProxy;
  let store: ObjectStore;
  let names = 0;
  /** A name that no other test uses. */
  const newName = () => `v10/${++names}/profiles_backup.000.gz`;

  beforeAll(async () => {
    subject = await start();
    network = subject.network;
    store = await open(subject.target, subject.environment());
    await store.prepare();
  });
  afterEach(() => network.mend());
  afterAll(() => subject.stop());

  test.for([0, 1, 70_000, 8 * 1024 * 1024])("%d bytes come back as they were", async (length) => {
    const name = newName();
    const bytes = random(length);
    await store.put(name, bytes);
    const read = await store.get(name, length);
    expect(Buffer.compare(read, bytes)).toBe(0);
  });

  test("an object that is missing is named, with the target", async () => {
    const name = newName();
    const error = await failure(store.get(name, 10));
    expect(error.code).toBe("object_missing");
    expect(error.message).toContain(`Target ${subject.target}, object ${name}: the store has no such object`);
  });

  test("an object is never overwritten, and stored again only where it is the same", async () => {
    const name = newName();
    const bytes = random(1000);
    await store.put(name, bytes);
    await store.put(name, bytes);
    const changed = bytes.map((byte, index) => index === 999 ? byte ^ 1 : byte);
    for (const other of [changed, random(999), random(1001), new Uint8Array()]) {
      expect((await failure(store.put(name, other))).code).toBe("object_exists");
    }
    expect(await store.get(name, 1000)).toEqual(bytes);
  });

  test("no more is read than is expected", async () => {
    const name = newName();
    await store.put(name, random(300_000));
    expect(await store.get(name, 300_000)).toHaveLength(300_000);
    expect(await failure(store.get(name, 299_999))).toMatchObject({
      code: "object_too_large",
      message: expect.stringContaining("(more than 299999 bytes)"),
    });
  });

  test("what is removed is gone, and to remove it again is no error", async () => {
    const [first, second] = [newName(), newName()];
    await store.put(first, random(10));
    await store.put(second, random(10));
    await store.remove([first]);
    await store.remove([first, second, newName()]);
    await store.remove([]);
    for (const name of [first, second]) expect((await failure(store.get(name, 10))).code).toBe("object_missing");
    await store.put(first, random(20));
    expect(await store.get(first, 20)).toHaveLength(20);
  });

  test.for(["../other/object", "/v10/object", "v10//object", "v10/..", "v10/a b", "v10/%2e%2e/object", "v10/a?b", ""])(
    "the name %j is refused before anything is sent",
    async (name) => {
      const before = network.requests.length;
      for (const attempt of [store.put(name, random(1)), store.get(name, 1), store.remove(["v10/object", name])]) {
        expect((await failure(attempt)).code).toBe("invalid_object_name");
      }
      expect(network.requests).toHaveLength(before);
    },
  );

  test("a key that does not open the store is denied access", async () => {
    const denied = await open(subject.target, subject.environment("wrong key"));
    const before = network.requests.length;
    expect((await failure(denied.get("object", 10))).code).toBe("store_denied");
    // It would be denied again.
    expect(network.requests).toHaveLength(before + 1);
    expect((await failure(denied.put(newName(), random(10)))).code).toBe("store_denied");
    expect((await failure(denied.remove(["object"]))).code).toBe("store_denied");
    expect((await failure(denied.prepare())).code).toBe("store_denied");
  });

  test("a public bucket is refused", async () => {
    await subject.makePublic(true);
    expect((await failure(store.prepare())).code).toBe("bucket_public");
    await subject.makePublic(false);
    await store.prepare();
  });

  test("a bucket that is gone is told from an object that is", async () => {
    await subject.removeBucket();
    expect((await failure(store.put(newName(), random(10)))).code).toBe("bucket_missing");
    expect((await failure(store.get("object", 10))).code).toBe("bucket_missing");
    expect((await failure(store.remove(["object"]))).code).toBe("bucket_missing");
    if (subject.target === "supabase") await store.prepare();
    else expect((await failure(store.prepare())).code).toBe("bucket_missing");
    await subject.createBucket();
    await store.put(newName(), random(10));
  });

  test.for(
    [[500, "InternalError"], [503, "SlowDown"], [429, "TooManyRequests"], [544, "DatabaseTimeout"]] as const,
  )("an answer %d is tried again, and fails the operation when it does not end", async ([status, code]) => {
    const name = newName();
    const bytes = random(10);
    network.fail(2, status, code);
    await store.put(name, bytes);
    network.fail(2, status, code);
    expect(await store.get(name, 10)).toEqual(bytes);
    network.fail(2, status, code);
    await store.prepare();

    network.fail(Infinity, status, code);
    const before = network.requests.length;
    expect(await failure(store.get(name, 10))).toMatchObject({
      code: "store_failed",
      message: expect.stringContaining(`(${status} ${code})`),
    });
    expect(network.requests).toHaveLength(before + 3);
    for (const attempt of [() => store.put(newName(), bytes), () => store.remove([name]), () => store.prepare()]) {
      expect((await failure(attempt())).code).toBe("store_failed");
    }
    network.fail(2, status, code);
    await store.remove([name]);
    expect((await failure(store.get(name, 10))).code).toBe("object_missing");
  });

  test.for(
    [[507, "XMinioStorageFull"], [507, "InsufficientStorage"]] as const,
  )("a full store is not tried again (%d %s)", async ([status, code]) => {
    network.fail(Infinity, status, code);
    const before = network.requests.length;
    expect((await failure(store.put(newName(), random(10)))).code).toBe("store_full");
    expect(network.requests.length - before).toBeLessThan(3);
  });

  test("an object beyond the store's limit is told", async () => {
    if (subject.target === "supabase") {
      expect((await failure(store.put(newName(), random(10 * 1024 * 1024)))).code).toBe("object_too_large");
    }
    network.fail(Infinity, subject.target === "supabase" ? 413 : 400, "EntityTooLarge");
    expect((await failure(store.put(newName(), random(10)))).code).toBe("object_too_large");
  });

  test("an upload whose answer is lost counts when it is tried again", async () => {
    const name = newName();
    const bytes = random(100_000);
    // Of S3 it is asked first whether the name is free: that answer may be lost, too.
    network.loseAnswers(2);
    await store.put(name, bytes);
    expect(await store.get(name, 100_000)).toEqual(bytes);
  });

  test("a download that ends too early is tried again", async () => {
    const name = newName();
    const bytes = random(1_000_000);
    await store.put(name, bytes);
    network.cutAnswers(1);
    const read = await store.get(name, 1_000_000);
    expect(Buffer.compare(read, bytes)).toBe(0);
    network.cutAnswers(3);
    expect((await failure(store.get(name, 1_000_000))).code).toBe("store_unreachable");
  });

  test("a store that is too slow is given up after each try's time", async () => {
    const name = newName();
    await store.put(name, random(10));
    const impatient = await open(subject.target, subject.environment(), { ...hasty, timeLimit: 200 });
    network.delay(60_000);
    for (
      const attempt of [
        () => impatient.get(name, 10),
        () => impatient.put(newName(), random(10)),
        () => impatient.prepare(),
      ]
    ) {
      const before = network.requests.length;
      expect(await failure(attempt())).toMatchObject({
        code: "store_unreachable",
        message: expect.stringContaining("(no answer within 0.2 s)"),
      });
      expect(network.requests).toHaveLength(before + 3);
    }
  });

  test("a store that refuses connections is unreachable, and reached again when it does not", async () => {
    const name = newName();
    await store.put(name, random(10));
    await network.refuse();
    expect(await failure(store.get(name, 10))).toMatchObject({
      code: "store_unreachable",
      message: expect.stringContaining("ECONN"),
    });
    for (const attempt of [() => store.put(newName(), random(10)), () => store.remove([name]), () => store.prepare()]) {
      expect((await failure(attempt())).code).toBe("store_unreachable");
    }
    const patient = await open(subject.target, subject.environment(), { pause: 200, maxAttempts: 10 });
    const read = patient.get(name, 10);
    await network.mend();
    expect(await read).toHaveLength(10);
  });

  test("a signal ends an operation, whether it waits for an answer or for the next try", async () => {
    const reason = new Error("the job was cancelled");
    const patient = await open(subject.target, subject.environment(), { pause: 60_000 });
    for (const makeTrouble of [() => network.delay(60_000), () => network.fail(Infinity, 500, "InternalError")]) {
      makeTrouble();
      const ended = new AbortController();
      const attempts = [
        patient.put(newName(), random(10), ended.signal),
        patient.get(newName(), 10, ended.signal),
        patient.remove([newName()], ended.signal),
        patient.prepare(ended.signal),
      ];
      setTimeout(() => ended.abort(reason), 300);
      const outcomes = await Promise.allSettled(attempts);
      expect(outcomes.map((outcome) => outcome.status === "rejected" && outcome.reason)).toEqual(
        attempts.map(() => reason),
      );
      await network.mend();
    }
    expect(await patient.get(newName(), 10, AbortSignal.abort(reason)).catch((error) => error)).toBe(reason);
  });

  test("it works in Deno as well", async () => {
    const environment = subject.environment();
    const { stdout } = await promisify(execFile)(deno, [
      ...["run", "--no-prompt", "--quiet", "--cached-only", "--node-modules-dir=manual"],
      `--config=${join(functionDirectory, "deno.json")}`,
      `--allow-net=${new URL(network.url).host}`,
      "--allow-env",
      join(import.meta.dirname, "..", "support", "use-store.ts"),
      subject.target,
    ], { env: { PATH: process.env.PATH, HOME: process.env.HOME, ...environment } });
    expect(JSON.parse(stdout))
      .toEqual({ isSame: true, taken: "object_exists", tooLarge: "object_too_large", missing: "object_missing" });
  });
});

describe("Supabase Storage alone", () => {
  let subject: Subject;
  beforeAll(async () => {
    subject = await startSupabase();
  });
  afterAll(() => subject.stop());

  test("the bucket is created, once, private", async () => {
    const store = await open("supabase", subject.environment());
    expect(store.location).toBe("supabase:migration-guard-exports");
    await Promise.all([store.prepare(), store.prepare(), store.prepare()]);
    const { storage } = createClient(subject.network.url, secretKeys.default!);
    expect((await storage.getBucket(exportsBucket)).data).toMatchObject({ public: false });
    await store.put("object", random(10));
    const asAnybody = createClient(subject.network.url, publishableKeys.default!).storage.from(exportsBucket);
    expect((await asAnybody.download("object")).data).toBeNull();
  });

  test("a project without new keys opens it with its legacy token, and one without any key not at all", async () => {
    const { SUPABASE_SECRET_KEYS: _, ...environment } = subject.environment();
    expect(await open("supabase", environment)).toBeUndefined();
    const store = await open("supabase", { ...environment, SUPABASE_SERVICE_ROLE_KEY: serviceRoleKey });
    await store.prepare();
    await store.put("with-the-legacy-token", random(10));
  });
});

describe("S3 alone", () => {
  let s3: S3;
  beforeAll(async () => {
    s3 = await startS3();
  });
  afterEach(async () => {
    await s3.mend();
    s3.open("nothing");
    s3.conditionalWrites("heeded");
  });
  afterAll(() => s3.stop());
  const offsite = (change: Record<string, string> = {}) => open("offsite", s3Environment(s3, change));

  test("a target that nobody has named is not opened", async () => {
    for (const name of ["onsite", "constructor", "toString", "__proto__", ""]) {
      expect(await open(name, s3Environment(s3))).toBeUndefined();
    }
  });

  test.for(["list", "objects"] as const)("a bucket is public when anybody may read its %s", async (what) => {
    const store = await offsite();
    s3.open(what);
    expect((await failure(store.prepare())).code).toBe("bucket_public");
  });

  test.for(["ignored", "refused"] as const)("nothing is overwritten where conditions are %s", async (how) => {
    const store = await offsite({ prefix: how });
    s3.conditionalWrites(how);
    const bytes = random(10);
    await store.put("object", bytes);
    await store.put("object", bytes);
    expect((await failure(store.put("object", random(10)))).code).toBe("object_exists");
    expect(await store.get("object", 10)).toEqual(bytes);
  });

  test("a prefix keeps targets of one bucket apart, and is part of the location", async () => {
    const [first, second] = [await offsite({ prefix: "first" }), await offsite({ prefix: "a/second/" })];
    expect([first.location, second.location, (await offsite()).location]).toEqual([
      `${s3.url}/exports/first`,
      `${s3.url}/exports/a/second`,
      `${s3.url}/exports`,
    ]);
    await first.put("object", random(10));
    expect((await failure(second.get("object", 10))).code).toBe("object_missing");
    expect(await (await offsite()).get("first/object", 10)).toHaveLength(10);
  });

  test.for(
    [
      [400, "ExpiredToken", "store_denied"],
      [400, "AuthorizationHeaderMalformed", "store_denied"],
      [403, "QuotaExceeded", "store_full"],
      [400, "XMinioAdminBucketQuotaExceeded", "store_full"],
      [301, "PermanentRedirect", "store_failed"],
      [400, "InvalidRequest", "store_failed"],
    ] as const,
  )("%d %s is %s", async ([status, code, expected]) => {
    s3.fail(Infinity, status, code);
    const store = await offsite();
    for (const attempt of [() => store.get("object", 10), () => store.remove(["object"])]) {
      expect(await failure(attempt())).toMatchObject({
        code: expected,
        message: expect.stringContaining(`(${status} ${code})`),
      });
    }
  });

  test.for(["BadDigest", "RequestTimeout", "IncompleteBody"])("400 %s is tried again", async (code) => {
    const store = await offsite({ prefix: code });
    s3.fail(2, 400, code);
    await store.put("object", random(10));
    expect(await store.get("object", 10)).toHaveLength(10);
  });

  test("a session's token is sent along", async () => {
    const store = await offsite({ session_token: "token-of-a-session" });
    await store.put("with-a-token", random(10));
    expect(s3.requests.at(-1)).toMatchObject({
      method: "PUT",
      path: "/exports/with-a-token",
      headers: { "x-amz-security-token": "token-of-a-session" },
    });
  });
});
