import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { problems } from "../../supabase/functions/migration-guard/problems.ts";

const root = join(import.meta.dirname, "..", "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const document = read("docs/errors.md");
const [requests, jobs] = [document.split("## Errors of a job")[0]!, document.split("## Errors of a job")[1]!];

/** What is in the first cells of a table's rows, the codes one by one. */
const codesOf = (text: string) =>
  [...text.matchAll(/^\| (`[^|]*`) \|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`(\w+)`/g)].map(([, code]) => code!)
  );

test("docs/errors.md has each problem once, with its status and SQLSTATE", () => {
  expect(codesOf(requests).sort()).toEqual(Object.keys(problems).sort());
  for (const [code, problem] of Object.entries<{ status: number; sqlstate?: string }>(problems)) {
    const row = requests.split("\n").find((line) => line.startsWith(`| \`${code}\` |`))!;
    const [, , status, ...cells] = row.split(/ ?(?<!\\)\| ?/);
    expect(Number(status), code).toBe(problem.status);
    expect(cells.at(-2), code).toBe(problem.sqlstate === undefined ? "" : `\`${problem.sqlstate}\``);
  }
});

test("docs/errors.md has each code that the database raises, and each that a job which reaches a store fails with", () => {
  const listed = new Set([...codesOf(requests), ...codesOf(jobs)]);
  const [first] = globSync("supabase/migrations/*_schemas_versions_errors.sql", { cwd: root });
  const raised = [...read(first!).matchAll(/^ {2}\('[0-9A-Z]{5}', '(\w+)'\)/gm)].map(([, code]) => code!);
  expect(raised.length).toBeGreaterThan(30);
  const folder = "supabase/functions/migration-guard/exports";
  const [, store] = /const sentences = \{([^}]*)\}/.exec(read(`${folder}/object-store.ts`))!;
  const stores = [...store!.matchAll(/^ {2}(\w+):/gm)].map(([, code]) => code!);
  const [, chunk] = /readonly code: ([^,]*),/.exec(read(`${folder}/chunk-error.ts`))!;
  const chunks = [...chunk!.matchAll(/"(\w+)"/g)].map(([, code]) => code!);
  expect([stores.length, chunks.length]).toEqual([10, 3]);
  expect([...raised, ...stores, ...chunks].filter((code) => !listed.has(code))).toEqual([]);
  expect([...stores, ...chunks].filter((code) => !codesOf(jobs).includes(code))).toEqual([]);
  // The page about stores says what each means.
  expect(stores.filter((code) => !codesOf(read("docs/object-stores.md")).includes(code))).toEqual([]);
});
