import { createEarlyApp } from "./early-app.ts";
import { readEnvironment } from "./environment.ts";

/** The platform keeps an isolate alive for what it is told to wait for; elsewhere there is nothing to tell. */
declare const EdgeRuntime: { waitUntil(promise: Promise<unknown>): void } | undefined;

const environment = readEnvironment((name) => Deno.env.get(name));
const early = createEarlyApp(environment);

async function loadApp() {
  const { createApp } = await import("./app.ts");
  return createApp(environment, {
    waitUntil: (promise) => typeof EdgeRuntime === "undefined" ? undefined : EdgeRuntime.waitUntil(promise),
  });
}

let loading: ReturnType<typeof loadApp> | undefined;

/** A file that could not be read is read again for the next request. */
const app = () =>
  loading ??= loadApp().catch((error) => {
    loading = undefined;
    throw error;
  });

// Whether the function runs is answered without the rest of it, which takes several times as long to load.
Deno.serve(async (request) => await early(request) ?? (await app()).fetch(request));
