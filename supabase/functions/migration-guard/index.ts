import { createEarlyApp } from "./early-app.ts";

/** The platform keeps an isolate alive for what it is told to wait for; elsewhere there is nothing to tell. */
declare const EdgeRuntime: { waitUntil(promise: Promise<unknown>): void } | undefined;

async function createApp() {
  const [app, { readEnvironment }] = await Promise.all([import("./app.ts"), import("./environment.ts")]);
  return app.createApp(readEnvironment((name) => Deno.env.get(name)), {
    waitUntil: (promise) => typeof EdgeRuntime === "undefined" ? undefined : EdgeRuntime.waitUntil(promise),
  });
}

const early = createEarlyApp();
let app: Awaited<ReturnType<typeof createApp>> | undefined;
let loading: ReturnType<typeof createApp> | undefined;

function load() {
  if (!loading) {
    loading = createApp();
    // Nobody takes up a failure of this one, so that it ends the isolate: the environment is not complete.
    loading.then((loaded) => app = loaded);
  }
  return loading;
}

Deno.serve(async (request) => {
  if (app) return app.fetch(request);
  const answer = await early(request);
  if (!answer) return (await load()).fetch(request);
  setTimeout(load);
  return answer;
});
