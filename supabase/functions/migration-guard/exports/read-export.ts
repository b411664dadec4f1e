import { decrypt } from "./decrypt.ts";
import { type ExportManifest, parseManifest } from "./export-manifest.ts";
import { type ObjectStore, ObjectStoreError } from "./object-store.ts";
import { sha256 } from "./sha256.ts";
import { nameObject, TransferError } from "./transfer.ts";

const mebibyte = 1024 * 1024;
/** Bytes of `SHA256SUMS`, which are about 85,000 objects, and of a manifest: what fits into an isolate's memory with all that is made of it. */
const maxSums = 8 * mebibyte;
const maxManifest = 24 * mebibyte;

export type ExportToRead = {
  /** The export's id, which is its folder. */
  id: string;
  identities: readonly string[];
  /** SHA-256 of its `SHA256SUMS`, where it is known. */
  sumsSha256?: string | null;
  /** The manifest of the backup that it must be of, where that was noted. */
  expectedManifest?: string | null;
};

/**
 * The manifest of an export, after each of its objects was held against `SHA256SUMS`, as far as that can be told without reading the
 * chunks. Nothing is decrypted or parsed before its own sum was checked.
 *
 * @throws {TransferError} `export_not_found`, `export_altered`, `export_format_unknown`, `manifest_invalid` or `manifest_unexpected`.
 * @throws {ChunkError} Where the manifest cannot be decrypted.
 */
export async function readExport(
  store: Pick<ObjectStore, "get" | "target">,
  { id, identities, sumsSha256, expectedManifest }: ExportToRead,
): Promise<ExportManifest> {
  const sums = await readSums(store, id, sumsSha256);
  const manifest = parseManifest(await readManifest(store, id, sums, identities));
  if (manifest.export !== id) throw altered(`its manifest is that of another export, ${manifest.export.slice(0, 64)}`);
  const wrong = manifest.chunks.find(({ object, sha256 }) => sums.get(object) !== sha256.stored);
  if (wrong) throw altered(`its manifest and its SHA256SUMS tell different sums of ${wrong.object}`);
  if (manifest.backup.manifest !== manifest.manifest) throw altered("its manifest tells two checksums of the backup");
  if (expectedManifest && manifest.manifest !== expectedManifest) {
    throw new TransferError(
      "manifest_unexpected",
      `The export is of a backup with the manifest ${manifest.manifest}, and not ${expectedManifest}.`,
    );
  }
  return manifest;
}

async function readSums(
  store: Pick<ObjectStore, "get" | "target">,
  id: string,
  known?: string | null,
): Promise<Map<string, string>> {
  const bytes = await store.get(`${id}/SHA256SUMS`, maxSums).catch((error) => {
    if (!(error instanceof ObjectStoreError) || error.code !== "object_missing") throw error;
    throw new TransferError(
      "export_not_found",
      `Target ${store.target} has no finished export ${id}: its SHA256SUMS is not there.`,
    );
  });
  if (known && sha256(bytes) !== known) throw altered("its SHA256SUMS is not the one that was written");
  const text = decode(bytes);
  const lines = text.split("\n");
  if (lines.pop() !== "") throw altered("its SHA256SUMS ends in the middle of a line");
  const sums = new Map<string, string>();
  for (const line of lines) {
    // Letters, digits, `.`, `_` and `-`: a segment never begins with a dot.
    const [, sum, name] =
      /^([0-9a-f]{64}) {2}((?:[A-Za-z0-9_-][A-Za-z0-9._-]*\/)*[A-Za-z0-9_-][A-Za-z0-9._-]*)$/.exec(line) ?? [];
    if (sum === undefined || name === undefined || sums.has(name)) {
      throw altered("its SHA256SUMS has a line that is none");
    }
    sums.set(name, sum);
  }
  return sums;
}

async function readManifest(
  store: Pick<ObjectStore, "get">,
  id: string,
  sums: Map<string, string>,
  identities: readonly string[],
): Promise<Uint8Array<ArrayBuffer>> {
  const [name, other] = ["manifest.json", "manifest.json.age"].filter((name) => sums.has(name));
  if (name === undefined || other !== undefined) throw altered("it has not one manifest");
  const stored = await store.get(`${id}/${name}`, maxManifest);
  if (sha256(stored) !== sums.get(name)) throw altered(`${name} is not what its SHA256SUMS tells of`);
  if (!name.endsWith(".age")) return stored;
  try {
    return await decrypt(stored, identities);
  } catch (error) {
    throw nameObject(error, name);
  }
}

const altered = (how: string) => new TransferError("export_altered", `The export is not what was written: ${how}.`);

/** A text in UTF-8. */
function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw altered("its SHA256SUMS is not in UTF-8");
  }
}
