import { serve } from "@hono/node-server";
import { getConnInfo } from "@hono/node-server/conninfo";
import { type Context, Hono } from "hono";
import { proxy } from "hono/proxy";
import { once } from "node:events";
import type { Server } from "node:http";
import type { Rest } from "./rest.ts";
import type { Storage } from "./storage.ts";

export type GatewayOptions = {
  port: number;
  /** Base URL of the process that runs a function, by the function's name. */
  functions: Record<string, string>;
  rest: Rest;
  storage: Storage;
};

/**
 * The one address of the local stack, with the paths of `supabase start`: `/functions/v1/<name>` keeps the function's
 * name in the path that the function sees, `/rest/v1` goes to REST,
 * `/storage/v1` to Storage.
 */
export async function startGateway(
  { port, functions, rest, storage }: GatewayOptions,
): Promise<{ stop: () => Promise<void> }> {
  const app = new Hono();
  app.all("/functions/v1/:name{[^/]+}/*", (c) => forward(c, c.req.param("name")));
  app.all("/functions/v1/:name{[^/]+}", (c) => forward(c, c.req.param("name")));
  app.all("/rest/v1/*", (c) => rest.fetch(c.req.raw));
  app.all("/storage/v1/*", (c) => storage.fetch(c.req.raw));
  app.notFound((c) => c.json({ message: "no Route matched with those values" }, 404));

  async function forward(c: Context, name: string): Promise<Response> {
    const request = c.req.raw;
    const target = functions[name];
    if (!target) {
      return Response.json({ code: "NOT_FOUND", message: "Requested function was not found" }, { status: 404 });
    }
    const url = new URL(request.url);
    // curl asks before it sends more than 1 MiB; the server in front has answered that already.
    const headers = new Headers(request.headers);
    headers.delete("expect");
    const { address } = getConnInfo(c).remote;
    if (address) headers.set("x-forwarded-for", address);
    try {
      const response = await proxy(`${target}${url.pathname.slice("/functions/v1".length)}${url.search}`, {
        raw: request,
        headers,
      });
      // The rest of such a body was not read: the connection cannot be used for another request.
      if (response.status === 413) response.headers.set("connection", "close");
      return response;
    } catch (error) {
      const { cause = error } = error as Error;
      console.error(`The gateway could not reach ${name} (${cause}): if it has ended, start all of this again.`);
      return Response.json({ code: "BOOT_ERROR", message: "Function is not running" }, { status: 503 });
    }
  }

  const server = serve({ fetch: app.fetch, port, hostname: "127.0.0.1" }) as Server;
  if (!server.listening) await once(server, "listening");
  return {
    stop: async () => {
      server.close();
      server.closeAllConnections();
      if (server.listening) await once(server, "close");
    },
  };
}
