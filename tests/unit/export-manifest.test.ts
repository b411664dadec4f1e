import { expect, test } from "vitest";
import { parseManifest } from "../../supabase/functions/migration-guard/exports/export-manifest.ts";
import { elementsOf, membersOf } from "../../supabase/functions/migration-guard/exports/split-json.ts";

const sum = "0".repeat(64);
const chunk = {
  number: 0,
  table: "t",
  object: "data/000000-1.copy.gz",
  rows: 2,
  bytes: { text: 9, compressed: 9, stored: 9 },
  sha256: { text: sum, compressed: sum, stored: sum },
};
const table = { name: "t", columns: [{ name: "a", type: "text", collation: null }], rows: 2, chunks: [0] };
const manifest = {
  format: "migration-guard-export",
  format_version: 1,
  export: "v10.0-20261129T113335Z-8f3a2b1c",
  manifest: sum,
  backup: { backup_id: "00000000-0000-4000-8000-000000000000", manifest: sum },
  tables: [table],
  chunks: [chunk],
};
const bytesOf = (text: string) => new TextEncoder().encode(text);
const parse = (change: object) => parseManifest(bytesOf(JSON.stringify({ ...manifest, ...change })));
const [text] = [JSON.stringify(manifest)];

test("a manifest is read whatever else it has, and however it is written", () => {
  expect(parse({ objects_backup: [{ definition: 'a "quoted" \\ [text] {' }], tables: [{ ...table, more: [1] }] }))
    .toEqual({ export: manifest.export, manifest: sum, backup: manifest.backup, tables: [table], chunks: [chunk] });
  expect(parseManifest(bytesOf(JSON.stringify(manifest, null, "\t ")))).toEqual(parse({}));
  expect(parseManifest(bytesOf(text!.replace('"tables"', '"\\u0074ables"')))).toEqual(parse({}));
});

test.for(
  [
    ["a list of what is none, a million times", { tables: Array(1e6).fill(0) }, "tables.0: is no JSON object"],
    ["too many tables", { tables: Array(10_001).fill(table) }, "tables: has too many elements: more than 10000"],
    [
      "too many columns",
      { tables: [{ ...table, columns: Array(1601).fill(table.columns[0]) }] },
      "tables.0.columns: has too",
    ],
    ["too many chunks", { chunks: Array(100_001).fill(chunk) }, "chunks: has too many elements: more than 100000"],
    ["too many chunks of all tables", {
      tables: [1, 2].map(() => ({ ...table, chunks: Array(60_000).fill(0) })),
    }, "tables.1.chunks: has too many elements"],
    ["a part that is too long", { chunks: [{ ...chunk, more: "x".repeat(20_000) }] }, "chunks.0: is too long"],
    [
      "too many fields",
      { backup: Object.fromEntries(Array.from({ length: 1001 }, (_, i) => [i, 0])) },
      "backup: has more",
    ],
    ["a field that is missing", { chunks: undefined }, "chunks: is not there"],
    ["no chunk", { chunks: [] }, "chunks: has none"],
    [
      "a fault deep in it",
      { chunks: [{ ...chunk, sha256: { ...chunk.sha256, text: "" } }] },
      "chunks.0.sha256.text: is no",
    ],
  ] as const,
)("%s is refused by the first fault", ([, change, message]) => {
  expect(() => parse(change)).toThrow(message);
});

test.for([
  ["", "[]", "1", "nul", text!.slice(1), text!.slice(0, -1), `${text}}`, `${text},`, text!.replace(":", ";")],
  [text!.replace('"chunks":[', '"chunks":[,'), text!.replaceAll("]", ",]"), text!.replace("}]", "]}")],
  [text!.replace('"rows":2', '"rows":2 3'), `\ufeff${text}`, `{"format": "x`],
].flat())("what is no JSON is none: %#", (text) => {
  expect(() => parseManifest(bytesOf(text))).toThrow(/manifest/);
});

test("JSON is split where its elements and its members end", () => {
  const json = bytesOf(' [ 1 , "a,]\\"" , [ 2 , { "b" : [ ] } ] , { } ] ');
  const parts = <T>(spans: Iterable<T>, of: (span: T) => { start: number; end: number }) =>
    [...spans].map(of).map(({ start, end }) => JSON.parse(new TextDecoder().decode(json.subarray(start, end))));
  const list = [...elementsOf(json, { start: 0, end: json.length })];
  expect(parts(list, (span) => span)).toEqual([1, 'a,]"', [2, { b: [] }], {}]);
  expect([...membersOf(json, list[3]!)]).toEqual([]);
  expect(parts(elementsOf(json, list[2]!), (span) => span)).toEqual([2, { b: [] }]);
  expect(() => [...membersOf(json, list[0]!)]).toThrow(SyntaxError);
});
