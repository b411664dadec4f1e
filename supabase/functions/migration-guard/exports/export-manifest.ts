import { z } from "zod";
import { Text } from "../schemas.ts";
import { elementsOf, membersOf, type Span } from "./split-json.ts";
import { TransferError } from "./transfer.ts";

/** The format of exports that is written, and read: `docs/export-format.md`. */
export const exportFormat = "migration-guard-export";
export const exportFormatVersion = 1;

const mebibyte = 1024 * 1024;

const Sum = z.string().regex(/^[0-9a-f]{64}$/, "is no SHA-256 in hexadecimal digits");
const Count = z.int().min(0);

const Name = Text.refine((name) => {
  const { length } = new TextEncoder().encode(name);
  return length >= 1 && length <= 63;
}, "has 1 to 63 bytes");

const Column = z.object({
  name: Name,
  // A name of one of Postgres's own types and its measures; the database looks whether there is such a type.
  type: z.string().regex(
    /^("[a-z0-9_]{1,63}"|[a-z][a-z0-9_ ]{0,62})(\([0-9]{1,9}(,-?[0-9]{1,9})?\)[a-z ]{0,30})?(\[\])?$/,
    "is no type of Postgres's own",
  ),
  collation: z.string().regex(
    /^pg_catalog\.("[^"\\\0]{1,63}"|[a-z_][a-z0-9_]{0,62})$/,
    "is no collation of Postgres's own",
  )
    .nullable(),
});

const Chunk = z.object({
  number: Count,
  table: Name,
  object: z.string().regex(/^data\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}$/, "is no name of an object in the folder data"),
  rows: Count,
  bytes: z.object({
    text: Count.max(48 * mebibyte),
    compressed: Count.max(56 * mebibyte),
    stored: Count.max(56 * mebibyte),
  }),
  sha256: z.object({ text: Sum, compressed: Sum, stored: Sum }),
});

/** Of a manifest what an import uses, which is not all of it. */
export type ExportManifest = {
  export: string;
  manifest: string;
  backup: { backup_id: string; manifest: string };
  tables: ManifestTable[];
  chunks: ManifestChunk[];
};
type ManifestTable = { name: string; columns: z.output<typeof Column>[]; rows: number; chunks: number[] };
type ManifestChunk = z.output<typeof Chunk>;

const [maxTables, maxColumns, maxChunks] = [10_000, 1600, 100_000];
/** Of a table, a backup or the whole. */
const maxMembers = 1000;
/** Bytes of what is parsed at once. */
const maxPart = 16 * 1024;

/**
 * Reads an export's manifest, whose sum must have been checked: of which format it is before anything else of it. It is parsed in
 * small parts, up to the first fault, and what an import does not use not at all, as `objects_backup`: so it takes little more memory
 * than its own size, whatever it says.
 *
 * @throws {TransferError} `manifest_invalid`, saying which field, or `export_format_unknown`.
 */
export function parseManifest(json: Uint8Array): ExportManifest {
  const whole = membersAt(json, { start: 0, end: json.length }, "");
  if (!whole.is("format", exportFormat) || !whole.is("format_version", exportFormatVersion)) {
    throw new TransferError(
      "export_format_unknown",
      `The export is not of the format that this version reads, which is ${exportFormat} ${exportFormatVersion}.`,
    );
  }
  const backup = membersAt(json, whole.span("backup"), "backup");
  let left = maxChunks;
  const manifest: ExportManifest = {
    export: whole("export", z.string()),
    manifest: whole("manifest", Sum),
    backup: { backup_id: backup("backup_id", z.uuid()), manifest: backup("manifest", Sum) },
    tables: listAt(json, whole.span("tables"), "tables", maxTables, (span, path) => {
      const table = membersAt(json, span, path);
      const columns = listAt(json, table.span("columns"), `${path}.columns`, maxColumns, partOf(json, Column));
      const chunks = listAt(json, table.span("chunks"), `${path}.chunks`, left, partOf(json, Count));
      left -= chunks.length;
      return { name: table("name", Name), columns, rows: table("rows", Count), chunks };
    }),
    chunks: listAt(json, whole.span("chunks"), "chunks", maxChunks, partOf(json, Chunk)),
  };
  if (manifest.chunks.length === 0) throw invalid("chunks", "has none");
  assertChunksOfTables(manifest);
  return manifest;
}

function assertChunksOfTables({ tables, chunks }: ExportManifest): void {
  const chunkOf = new Map(chunks.map((chunk) => [chunk.number, chunk]));
  if (chunkOf.size < chunks.length) throw invalid("chunks", "has a number more than once");
  if (new Set(chunks.map(({ object }) => object)).size < chunks.length) {
    throw invalid("chunks", "has an object more than once");
  }
  if (new Set(tables.map(({ name }) => name)).size < tables.length) {
    throw invalid("tables", "has a name more than once");
  }
  const named = new Set<number>();
  let count = 0;
  for (const [index, table] of tables.entries()) {
    let rows = 0;
    for (const number of table.chunks) {
      const chunk = chunkOf.get(number);
      if (chunk?.table !== table.name) {
        throw invalid(`tables.${index}.chunks`, `has ${number}, which is no chunk of it`);
      }
      rows += chunk.rows;
      named.add(number);
    }
    if (rows !== table.rows) throw invalid(`tables.${index}.rows`, `is not the ${rows} of its chunks`);
    count += table.chunks.length;
  }
  if (count !== chunks.length || named.size !== chunks.length) {
    throw invalid("chunks", "are not each in one table's list, once");
  }
}

const invalid = (path: string, message: string) =>
  new TransferError("manifest_invalid", `The export's manifest is not as it must be: ${path}: ${message}.`);

/** Reads the members of an object, each when it is asked for. */
function membersAt(json: Uint8Array, span: Span, path: string) {
  const spans = new Map<unknown, Span>();
  try {
    for (const { name, value } of membersOf(json, span)) {
      if (spans.size === maxMembers) throw invalid(path, `has more than ${maxMembers} fields`);
      spans.set(partOf(json, z.string())(name, path), value);
    }
  } catch (error) {
    throw error instanceof SyntaxError ? invalid(path, "is no JSON object") : error;
  }
  const prefix = path && `${path}.`;
  const spanOf = (name: string): Span => {
    const span = spans.get(name);
    if (!span) throw invalid(prefix + name, "is not there");
    return span;
  };
  const read = <T>(name: string, schema: z.ZodType<T>): T => partOf(json, schema)(spanOf(name), prefix + name);
  const is = (name: string, value: unknown) => spans.has(name) && read(name, z.unknown()) === value;
  return Object.assign(read, { is, span: spanOf });
}

/** Reads the elements of a list one by one, and stops where there are too many. */
function listAt<T>(
  json: Uint8Array,
  span: Span,
  path: string,
  limit: number,
  read: (span: Span, path: string) => T,
): T[] {
  const list: T[] = [];
  try {
    for (const element of elementsOf(json, span)) {
      if (list.length === limit) throw invalid(path, `has too many elements: more than ${limit}`);
      list.push(read(element, `${path}.${list.length}`));
    }
  } catch (error) {
    throw error instanceof SyntaxError ? invalid(path, "is no list") : error;
  }
  return list;
}

/** Reads what is small by itself. */
const partOf = <T>(json: Uint8Array, schema: z.ZodType<T>) => ({ start, end }: Span, path: string): T => {
  if (end - start > maxPart) throw invalid(path, "is too long");
  const { data, error } = schema.safeParse(parseJson(json.subarray(start, end), path));
  if (!error) return data;
  const issue = error.issues[0]!;
  throw invalid([...(path ? [path] : []), ...issue.path].join("."), issue.message);
};

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function parseJson(json: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(decoder.decode(json));
  } catch {
    throw invalid(path, "is no JSON in UTF-8");
  }
}
