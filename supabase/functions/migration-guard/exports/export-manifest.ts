import { z } from "zod";
import { Text } from "../schemas.ts";
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

const Table = z.object({
  name: Name,
  source: Text.nullable(),
  columns: z.array(Column).max(1600),
  rows: Count,
  checksum: Text.nullable(),
  chunks: z.array(Count),
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
const ExportManifest = z.object({
  export: z.string(),
  manifest: Sum,
  backup: z.looseObject({ backup_id: z.uuid(), manifest: Sum }),
  tables: z.array(Table).max(10_000),
  chunks: z.array(Chunk).min(1),
}).superRefine(({ tables, chunks }, context) => {
  const refuse = (path: PropertyKey[], message: string) => context.addIssue({ code: "custom", path, message });
  const chunkOf = new Map(chunks.map((chunk) => [chunk.number, chunk]));
  if (chunkOf.size < chunks.length) return refuse(["chunks"], "has a number more than once");
  if (new Set(chunks.map(({ object }) => object)).size < chunks.length) {
    return refuse(["chunks"], "has an object more than once");
  }
  if (new Set(tables.map(({ name }) => name)).size < tables.length) {
    return refuse(["tables"], "has a name more than once");
  }
  const named: number[] = [];
  for (const [index, table] of tables.entries()) {
    let rows = 0;
    for (const number of table.chunks) {
      const chunk = chunkOf.get(number);
      if (chunk?.table !== table.name) {
        return refuse(["tables", index, "chunks"], `has ${number}, which is no chunk of it`);
      }
      rows += chunk.rows;
    }
    if (rows !== table.rows) return refuse(["tables", index, "rows"], `is not the ${rows} of its chunks`);
    named.push(...table.chunks);
  }
  if (named.length !== chunks.length || new Set(named).size !== chunks.length) {
    refuse(["chunks"], "are not each in one table's list, once");
  }
});

export type ExportManifest = z.output<typeof ExportManifest>;

/**
 * Reads an export's manifest, whose sum must have been checked: of which format it is before anything else of it.
 *
 * @throws {TransferError} `manifest_invalid`, saying which field, or `export_format_unknown`.
 */
export function parseManifest(text: string): ExportManifest {
  const document = parseJson(text);
  const { format, format_version } = z.looseObject({}).catch({}).parse(document);
  if (format !== exportFormat || format_version !== exportFormatVersion) {
    throw new TransferError(
      "export_format_unknown",
      `The export is not of the format that this version reads, which is ${exportFormat} ${exportFormatVersion}.`,
    );
  }
  const { data, error } = ExportManifest.safeParse(document);
  if (error) {
    const { path, message } = error.issues[0]!;
    throw new TransferError(
      "manifest_invalid",
      `The export's manifest is not as it must be: ${path.join(".")}: ${message}.`,
    );
  }
  return data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new TransferError("manifest_invalid", "The export's manifest is no JSON.");
  }
}
