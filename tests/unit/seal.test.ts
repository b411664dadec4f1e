import { generateHybridIdentity, generateIdentity, identityToRecipient } from "age-encryption";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { gunzipSync, gzipSync } from "node:zlib";
import { beforeAll, expect, test } from "vitest";
import { assertStored } from "../../supabase/functions/migration-guard/exports/assert-stored.ts";
import type { ChunkRecord, Stage } from "../../supabase/functions/migration-guard/exports/chunk-record.ts";
import { seal } from "../../supabase/functions/migration-guard/exports/seal.ts";
import { sha256 } from "../../supabase/functions/migration-guard/exports/sha256.ts";
import { unseal } from "../../supabase/functions/migration-guard/exports/unseal.ts";

const sizes = [0, 1, 65_535, 65_536, 65_537, 8_000_000];

/** Lines of letters: some repeat, some do not, as in a table. */
function textOf(bytes: number): Buffer {
  const text = Buffer.alloc(bytes, "0123456789abcdef\t\\N\n");
  for (let at = 0, seed = 1; at < bytes; at += 3) {
    seed = (seed * 48_271) % 2_147_483_647;
    if (text[at] !== 10) text[at] = 97 + seed % 26;
  }
  return text;
}

const rowsOf = (text: Buffer) => text.toString("latin1").split("\n").length - 1;

function* blocksOf(text: Uint8Array, size = 65_536) {
  for (let at = 0; at < text.length; at += size) yield text.subarray(at, at + size);
}

let identity: string;
let recipient: string;
let other: string;
beforeAll(async () => {
  identity = await generateIdentity();
  recipient = await identityToRecipient(identity);
  other = await generateIdentity();
});

test.for(sizes)("%i bytes come back as they were, encrypted or not", async (size) => {
  const text = textOf(size);
  for (const recipients of [[], [recipient, await identityToRecipient(other)]]) {
    const { body, ...record } = await seal(blocksOf(text), recipients);
    expect(record.rows).toBe(rowsOf(text));
    expect(record.bytes).toMatchObject({ text: size, stored: body.length });
    expect(record.sha256).toMatchObject({ text: sha256(text), stored: sha256(body) });
    expect(Buffer.concat(await unseal(body, record, recipients.length === 0 ? [] : [other, identity])).equals(text))
      .toBe(true);
    if (recipients.length === 0) {
      expect(body.length).toBe(record.bytes.compressed);
      expect(record.sha256.compressed).toBe(record.sha256.stored);
      expect(gunzipSync(body).equals(text)).toBe(true);
    }
  }
});

test("a text is compressed to the same bytes each time, and encrypted to others", async () => {
  const text = textOf(1_000_000);
  const [first, second] = [
    await seal(blocksOf(text), [recipient]),
    await seal(blocksOf(text, 100_001), [recipient]),
  ];
  expect(second.sha256.compressed).toBe(first.sha256.compressed);
  expect(second.sha256.stored).not.toBe(first.sha256.stored);
});

test("a chunk for a post-quantum recipient comes back", async () => {
  const hybrid = await generateHybridIdentity();
  const { body, ...record } = await seal(blocksOf(textOf(100_000)), [await identityToRecipient(hybrid)]);
  expect(Buffer.concat(await unseal(body, record, [identity, hybrid])).equals(textOf(100_000))).toBe(true);
});

test("whom it is not encrypted for cannot read it, and is told so", async () => {
  const { body, ...record } = await seal(blocksOf(textOf(1000)), [recipient]);
  await expect(unseal(body, record)).rejects.toMatchObject({ code: "identity_missing" });
  await expect(unseal(body, record, [other])).rejects.toMatchObject({ code: "identity_wrong" });
  await expect(unseal(body, record, [await generateHybridIdentity()])).rejects.toMatchObject({
    code: "identity_wrong",
  });
  // That it is whole can be seen nevertheless.
  assertStored(body, record);
  body[body.length >> 1]! ^= 1;
  expect(() => assertStored(body, record)).toThrow(expect.objectContaining({ code: "chunk_altered", stage: "stored" }));
});

/** As whoever can write both makes them: a record whose sum of what is stored is right. */
function recordAnew(stored: Uint8Array, record: ChunkRecord): ChunkRecord {
  const found = { bytes: stored.length, sha256: sha256(stored) };
  const stages = record.sha256.stored === record.sha256.compressed ? ["stored", "compressed"] : ["stored"];
  return {
    rows: record.rows,
    bytes: { ...record.bytes, ...Object.fromEntries(stages.map((stage) => [stage, found.bytes])) },
    sha256: { ...record.sha256, ...Object.fromEntries(stages.map((stage) => [stage, found.sha256])) },
  };
}

test.for(["plain", "encrypted"])("no altered byte of a %s chunk passes", async (kind) => {
  const recipients = kind === "encrypted" ? [recipient] : [];
  const { body, ...record } = await seal(blocksOf(textOf(200_000)), recipients);
  const expectAltered = async (stored: Uint8Array, later: Stage[]) => {
    const unsealed = unseal(new Uint8Array(stored), record, [identity]);
    await expect(unsealed).rejects.toMatchObject({ code: "chunk_altered", stage: "stored" });
    const anew = unseal(new Uint8Array(stored), recordAnew(stored, record), [identity]);
    await expect(anew).rejects.toMatchObject({ code: "chunk_altered", stage: expect.toBeOneOf(later) });
  };
  const broken: Stage[] = kind === "encrypted" ? ["stored"] : ["compressed", "text"];
  for (const at of [0, 10, body.length >> 1, body.length - 1]) {
    const changed = new Uint8Array(body);
    changed[at]! ^= 1;
    await expectAltered(changed, broken);
  }
  for (const end of [0, 1, 100, body.length - 1]) await expectAltered(body.subarray(0, end), broken);
  // Other chunks, of as many bytes of text and of more.
  for (const size of [200_000, 300_000]) {
    const swapped = await seal(blocksOf(textOf(size).reverse()), recipients);
    await expectAltered(swapped.body, kind === "encrypted" ? ["compressed"] : ["text"]);
  }
  if (kind === "encrypted") await expectAltered(Buffer.concat([body, Buffer.from("x")]), broken);
});

test("a record that is wrong in a single figure is noticed", async () => {
  for (const recipients of [[], [recipient]]) {
    const { body, ...record } = await seal(blocksOf(textOf(200_000)), recipients);
    for (const stage of ["stored", "compressed", "text"] as const) {
      const wrongSum = { ...record, sha256: { ...record.sha256, [stage]: sha256(Buffer.from("other")) } };
      await expect(unseal(body, wrongSum, [identity])).rejects.toMatchObject({ code: "chunk_altered" });
      for (const difference of [-1, 1]) {
        const wrongSize = { ...record, bytes: { ...record.bytes, [stage]: record.bytes[stage] + difference } };
        await expect(unseal(body, wrongSize, [identity])).rejects.toMatchObject({ code: "chunk_altered", stage });
      }
    }
    for (const rows of [record.rows - 1, record.rows + 1]) {
      await expect(unseal(body, { ...record, rows }, [identity])).rejects.toMatchObject({
        code: "chunk_altered",
        stage: "text",
      });
    }
  }
});

test("what is not encrypted cannot stand for what is, nor the other way round", async () => {
  const plain = await seal(blocksOf(textOf(1000)));
  const encrypted = await seal(blocksOf(textOf(1001)), [recipient]);
  for (const identities of [[], [identity]]) {
    await expect(unseal(plain.body, recordAnew(plain.body, encrypted), identities))
      .rejects.toMatchObject({ code: "chunk_altered", stage: "stored" });
    await expect(unseal(encrypted.body, recordAnew(encrypted.body, plain), identities))
      .rejects.toMatchObject({ code: "chunk_altered", stage: "compressed" });
  }
});

test("a gzip bomb does not fill the memory", async () => {
  const bomb = new Uint8Array(gzipSync(Buffer.alloc(300_000_000), { level: 1 }));
  const sum = sha256(bomb);
  const record = {
    rows: 1,
    bytes: { text: 1000, compressed: bomb.length, stored: bomb.length },
    sha256: { text: sum, compressed: sum, stored: sum },
  };
  const before = process.memoryUsage().rss;
  await expect(unseal(bomb, record)).rejects.toMatchObject({ code: "chunk_altered", stage: "text" });
  expect(process.memoryUsage().rss - before).toBeLessThan(100_000_000);
});

const age = (args: string[], input: Uint8Array) => spawnSync("age", args, { input, maxBuffer: 2 ** 26 });

test("Debian's age reads what is sealed, and what it writes is unsealed", async ({ skip, onTestFinished }) => {
  if (spawnSync("age", ["--version"]).error) skip("age, of Debian's package of that name, is not there");
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-age-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "identity");
  writeFileSync(file, `${identity}\n`, { mode: 0o600 });
  for (const size of sizes) {
    const text = textOf(size);
    const { body, ...record } = await seal(blocksOf(text), [await identityToRecipient(other), recipient]);
    const { stdout, status } = age(["--decrypt", "--identity", file], body);
    expect(status).toBe(0);
    expect(gunzipSync(stdout).equals(text)).toBe(true);
    const written = new Uint8Array(age(["--encrypt", "--recipient", recipient], stdout).stdout);
    expect(Buffer.concat(await unseal(written, recordAnew(written, record), [identity])).equals(text)).toBe(true);
  }
});
