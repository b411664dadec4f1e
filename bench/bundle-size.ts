import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { deno, functionDirectory } from "../local/edge-runtime.ts";

const root = dirname(import.meta.dirname);

type Package = {
  dependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
  peerDependenciesMeta?: Record<string, { optional?: boolean }>;
};

/** Megabytes (10^6 bytes) of all modules that the function reaches, in one file by `deno bundle`, and of the parser's WebAssembly. */
export function bundleSize(): number {
  const folder = mkdtempSync(join(tmpdir(), "migration-guard-bundle-"));
  try {
    const file = join(folder, "bundle.js");
    const options = [
      "--quiet",
      "--minify",
      "--node-modules-dir=manual",
      `--config=${join(functionDirectory, "deno.json")}`,
    ];
    execFileSync(deno, ["bundle", ...options, "-o", file, join(functionDirectory, "index.ts")], { cwd: root });
    const binaries = packageFolders().flatMap(filesIn).filter((path) => path.endsWith(".wasm"));
    return [file, ...binaries].reduce((sum, path) => sum + statSync(path).size, 0) / 1e6;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Megabytes, before and after it is compressed. */
export type UploadSize = { whole: number; compressed: number; largest: { name: string; compressed: number }[] };

/**
 * What `supabase functions deploy` uploads, as near as it can be known without Docker: the function's files and all files of the
 * packages that it depends on, each content once, and compressed as the CLI does it. The platform's bundler takes packages whole.
 */
export function uploadSize(): UploadSize {
  const seen = new Set<string>();
  const parts = [functionDirectory, ...packageFolders()].map((folder) => ({
    name: relative(join(root, "node_modules"), folder),
    content: Buffer.concat(
      filesIn(folder).map((file) => readFileSync(file)).filter((content) => {
        const hash = createHash("sha256").update(content).digest("hex");
        return !seen.has(hash) && seen.add(hash);
      }),
    ),
  }));
  const whole = Buffer.concat(parts.map(({ content }) => content));
  const largest = parts.map(({ name, content }) => ({ name, compressed: compressedSize(content) }))
    .sort((a, b) => b.compressed - a.compressed).slice(0, 3);
  return { whole: whole.length / 1e6, compressed: compressedSize(whole), largest };
}

/** The CLI compresses with the level that Go's package has by default. */
const compressedSize = (content: Buffer) =>
  brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 6 } }).length / 1e6;

/** The folders of the packages that the function's `deno.json` names, and of those that they depend on. */
function packageFolders(): string[] {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, Package>;
  };
  const { imports } = JSON.parse(readFileSync(join(functionDirectory, "deno.json"), "utf8")) as {
    imports: Record<string, string>;
  };
  const found = new Set<string>();
  const add = (name: string, dependent: string) => {
    const place = placesFor(name, dependent).find((place) => place in packages);
    // A package that is optional may be missing.
    if (place === undefined || found.has(place)) return;
    found.add(place);
    const { dependencies, peerDependencies = {}, peerDependenciesMeta } = packages[place]!;
    const peers = Object.keys(peerDependencies).filter((peer) => !peerDependenciesMeta?.[peer]?.optional);
    for (const dependency of [...Object.keys(dependencies ?? {}), ...peers]) add(dependency, place);
  };
  for (const target of Object.values(imports)) add(/^npm:\/?((?:@[^/@]+\/)?[^/@]+)@/.exec(target)![1]!, "");
  return [...found].map((place) => join(root, place));
}

/** Where a package may be that another one depends on: in its own folder first, then further and further out. */
function placesFor(name: string, dependent: string): string[] {
  const place = `${dependent ? `${dependent}/` : ""}node_modules/${name}`;
  if (!dependent) return [place];
  return [
    place,
    ...placesFor(name, dependent.includes("/node_modules/") ? dependent.replace(/(.*)\/node_modules\/.*/, "$1") : ""),
  ];
}

/** All files of a folder, but those of the packages in it. */
const filesIn = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (!entry.isDirectory()) return [path];
    return entry.name === "node_modules" ? [] : filesIn(path);
  });
