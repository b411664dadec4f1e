// Run by Deno: opens the target that its argument names, and uses it once. Prints what came of it, as JSON.
import { readEnvironment } from "../../supabase/functions/migration-guard/environment.ts";
import { openStore } from "../../supabase/functions/migration-guard/exports/open-store.ts";

declare const Deno: { args: string[]; env: { get: (name: string) => string | undefined } };

const store = (await openStore(Deno.args[0]!, readEnvironment((name) => Deno.env.get(name)), { pause: 10 }))!;
const bytes = crypto.getRandomValues(new Uint8Array(60_000));
await store.prepare();
await store.put("in/deno", bytes);
await store.put("in/deno", bytes);
const read = await store.get("in/deno", bytes.length);
const codeOf = (promise: Promise<unknown>) => promise.then(() => "none", (error) => error.code);
const taken = await codeOf(store.put("in/deno", new Uint8Array(1)));
const tooLarge = await codeOf(store.get("in/deno", bytes.length - 1));
await store.remove(["in/deno", "in/deno"]);
const missing = await codeOf(store.get("in/deno", 1));
console.log(JSON.stringify({ isSame: read.join() === bytes.join(), taken, tooLarge, missing }));
