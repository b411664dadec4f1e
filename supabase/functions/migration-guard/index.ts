import { createApp } from "./app.ts";
import { readEnvironment } from "./environment.ts";

/** The platform keeps an isolate alive for what it is told to wait for; elsewhere there is nothing to tell. */
declare const EdgeRuntime: { waitUntil(promise: Promise<unknown>): void } | undefined;

const app = createApp(readEnvironment((name) => Deno.env.get(name)), {
  waitUntil: (promise) => typeof EdgeRuntime === "undefined" ? undefined : EdgeRuntime.waitUntil(promise),
});

Deno.serve(app.fetch);
