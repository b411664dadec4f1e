import { randomBytes } from "node:crypto";
import type postgres from "postgres";
import { copyOut } from "../../supabase/functions/migration-guard/exports/copy-out.ts";
import { encrypt } from "../../supabase/functions/migration-guard/exports/encrypt.ts";
import type { ObjectStore } from "../../supabase/functions/migration-guard/exports/object-store.ts";
import { seal } from "../../supabase/functions/migration-guard/exports/seal.ts";
import { sha256 } from "../../supabase/functions/migration-guard/exports/sha256.ts";

export type ManifestColumn = { name: string; type: string; collation: string | null };
export type ManifestTable = {
  name: string;
  source: string | null;
  columns: ManifestColumn[];
  rows: number;
  checksum: string | null;
  chunks: number[];
};
export type ManifestChunk = {
  number: number;
  table: string;
  object: string;
  rows: number;
  bytes: Record<"text" | "compressed" | "stored", number>;
  sha256: Record<"text" | "compressed" | "stored", string>;
};
export type Manifest = {
  format: string;
  format_version: number;
  export: string;
  manifest: string;
  backup: Record<string, unknown>;
  tables: ManifestTable[];
  chunks: ManifestChunk[];
  [field: string]: unknown;
};

/** An export before it is written: what a test may change, as somebody could who makes one that is not what it seems. */
export type Draft = {
  manifest: Manifest;
  /** The chunks as they are stored, by the names of their objects. */
  chunks: Map<string, Uint8Array<ArrayBuffer>>;
  recipients: string[];
};

/** An export as it is stored: objects by name, `SHA256SUMS` among them. */
export type Folder = { id: string; objects: Map<string, Uint8Array<ArrayBuffer>> };

export type DraftOptions = {
  recipients?: string[];
  /** Bytes of text that a chunk has at least, about. */
  targetBytes?: number;
  /** What the text of a table becomes before it is sealed. */
  rewrite?: (table: string, text: string) => string;
};

/** Reads a backup schema as `docs/export-format.md` has it. */
export async function draftExport(
  sql: postgres.Sql,
  schema: string,
  { recipients = [], targetBytes = 8_000_000, rewrite }: DraftOptions = {},
): Promise<Draft> {
  const [backup] = await sql.unsafe<[{ row: Manifest["backup"] & { manifest: string; migration_version: string } }]>(
    `select to_jsonb(m) - 'tables' - 'objects' as row from ${schema}.backup_metadata as m`,
  );
  const id = `${backup.row.migration_version}-20261129T113335Z-${randomBytes(4).toString("hex")}`;
  const tables = await sql<ManifestTable[]>`
    select c.relname as name, null as source, 0 as rows, null as checksum, '[]'::jsonb as chunks, migration_guard.exported_columns(c.oid) as columns
    from pg_class as c
    where c.relnamespace = ${schema}::regnamespace and c.relkind = 'r' order by c.relname collate "C"`;
  const draft: Draft = {
    manifest: {
      format: "migration-guard-export",
      format_version: 1,
      export: id,
      created_at: "2026-11-29T11:33:35Z",
      version: backup.row.migration_version,
      schema,
      plan: backup.row.plan,
      backup: backup.row,
      manifest: backup.row.manifest,
      recipients,
      tables: [...tables],
      chunks: [],
      objects_backup: [],
    },
    chunks: new Map(),
    recipients,
  };
  await sql.begin("isolation level repeatable read", async (transaction) => {
    await transaction.unsafe(`
      set local datestyle = 'ISO, YMD'; set local intervalstyle = postgres; set local timezone = 'UTC'; set local extra_float_digits = 1;
      set local bytea_output = hex; set local lc_monetary = 'C'`).simple();
    for (const table of draft.manifest.tables) {
      const statements = await transaction<{ text: string }[]>`
        select migration_guard.chunk_statement(c.oid, format('(%s,0)', p.first_block)::tid,
          case when p.end_block is not null then format('(%s,0)', p.end_block)::tid end) as text
        from (select to_regclass(format('%I.%I', ${schema}::text, ${table.name}::text))::oid as oid) as c
        cross join lateral migration_guard.plan_chunks(c.oid, ${targetBytes}) as p order by p.number`;
      for (const { text } of statements) {
        const { blocks } = await copyOut(transaction, text, { maxBytes: 48_000_000 });
        const rows = rewrite ? [Buffer.from(rewrite(table.name, Buffer.concat(blocks).toString()))] : blocks;
        await addChunk(draft, table, rows);
      }
    }
  });
  return draft;
}

/** Adds a chunk of a table to an export, with a record that is right. */
export async function addChunk(draft: Draft, table: ManifestTable, blocks: Uint8Array[]): Promise<void> {
  const { body, ...record } = await seal(blocks, draft.recipients);
  const { chunks } = draft.manifest;
  const number = chunks.length;
  const suffix = draft.recipients.length > 0 ? ".age" : "";
  const object = `data/${String(number).padStart(6, "0")}-1.copy.gz${suffix}`;
  chunks.push({ number, table: table.name, object, ...record });
  draft.chunks.set(object, body);
  table.chunks.push(number);
  table.rows += record.rows;
}

/** Makes of an export the objects that are stored, with sums that are right. */
export async function finishExport({ manifest, chunks, recipients }: Draft): Promise<Folder> {
  const suffix = recipients.length > 0 ? ".age" : "";
  const objects = new Map(chunks);
  objects.set(`restore.sql${suffix}`, bytesOf("-- not written here\n"));
  const plain = bytesOf(JSON.stringify(manifest));
  const body = recipients.length > 0 ? await encrypt(plain, recipients) : plain;
  objects.set(`manifest.json${suffix}`, body);
  writeSums(objects);
  return { id: manifest.export, objects };
}

/** Writes the sums of an export's objects anew. */
export function writeSums(objects: Folder["objects"]): void {
  objects.delete("SHA256SUMS");
  const lines = [...objects].map(([name, body]) => `${sha256(body)}  ${name}\n`);
  objects.set("SHA256SUMS", bytesOf(lines.join("")));
}

export async function storeExport(store: ObjectStore, { id, objects }: Folder): Promise<void> {
  for (const [name, body] of objects) await store.put(`${id}/${name}`, body);
}

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text));
