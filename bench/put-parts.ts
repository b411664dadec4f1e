// Puts the files of a folder into a bucket in parts, one after the other, as the product puts its chunks: what `bench/exports.ts` has
// after pg_dump. Prints how many bytes there were.
import { openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { s3Store } from "../supabase/functions/migration-guard/exports/s3-store.ts";

const partSize = 8 * 1024 * 1024;

const [folder, prefix, target] = process.argv.slice(2);
const store = s3Store("bench", JSON.parse(target!));
let bytes = 0;
for (const name of readdirSync(folder!)) {
  const file = openSync(join(folder!, name), "r");
  for (let number = 0;; number++) {
    const part = new Uint8Array(partSize);
    const length = readSync(file, part);
    if (length === 0) break;
    await store.put(`${prefix}/${name}.${number}`, part.subarray(0, length));
    bytes += length;
  }
}
console.log(bytes);
