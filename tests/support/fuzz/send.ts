import { Agent, request } from "node:http";

export type Sent = {
  method: string;
  /** As it goes over the wire: nothing resolves its dots or decodes it. */
  path: string;
  headers: Record<string, string>;
  body?: string | Uint8Array;
};

export type Received = {
  status: number;
  contentType: string | undefined;
  cacheControl: string | undefined;
  text: string;
};

/** Sends requests just as they are, which `fetch` would tidy up. */
export function createSender(base: string): { send: (sent: Sent) => Promise<Received>; close: () => void } {
  const agent = new Agent({ keepAlive: true });
  const { hostname, port } = new URL(base);
  return {
    send: ({ method, path, headers, body }) =>
      new Promise((resolve, reject) => {
        const outgoing = request({ agent, hostname, port, method, path, headers }, (answer) => {
          let text = "";
          answer.setEncoding("utf8").on("data", (more: string) => text += more).on("error", reject);
          answer.on("end", () =>
            resolve({
              status: answer.statusCode!,
              contentType: answer.headers["content-type"],
              cacheControl: answer.headers["cache-control"],
              text,
            }));
        });
        outgoing.on("error", reject);
        outgoing.end(body);
      }),
    close: () => agent.destroy(),
  };
}
