import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, request, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

/** A way to an HTTP server on which things go wrong. */
export type FaultyProxy = {
  url: string;
  /** Requests that came in since the start, those that were answered with a fault too. */
  requests: { method: string; path: string; headers: IncomingHttpHeaders }[];
  /** Answers the next requests with an error of that status and code, and does not pass them on. */
  fail: (count: number, status: number, code: string) => void;
  /** Answers each request later by so many milliseconds, until {@link mend}. */
  delay: (milliseconds: number) => void;
  /** Passes the next requests on, and ends their connections instead of answering. */
  loseAnswers: (count: number) => void;
  /** Ends the next answers in the middle of their bodies. */
  cutAnswers: (count: number) => void;
  /** Refuses connections, until {@link mend}. */
  refuse: () => Promise<void>;
  /** All is well again. */
  mend: () => Promise<void>;
  stop: () => Promise<void>;
};

/**
 * @param errorBody What the server behind it writes about an error.
 * @param isSubject Whether something may go wrong with a request to this path; what may not is passed on, and not counted.
 */
export async function startFaultyProxy(
  upstream: string,
  errorBody: (status: number, code: string) => { type: string; text: string },
  isSubject: (path: string) => boolean = () => true,
): Promise<FaultyProxy> {
  const { hostname, port: upstreamPort } = new URL(upstream);
  const requests: FaultyProxy["requests"] = [];
  let failures = { count: 0, status: 500, code: "" };
  let pause = 0;
  let lost = 0;
  let cut = 0;

  async function handle(incoming: IncomingMessage, outgoing: ServerResponse) {
    if (!isSubject(incoming.url!)) {
      const answer = await passOn(incoming, outgoing);
      outgoing.writeHead(answer.statusCode!, answer.rawHeaders);
      answer.pipe(outgoing);
      return;
    }
    requests.push({ method: incoming.method!, path: incoming.url!, headers: incoming.headers });
    if (failures.count > 0) {
      failures.count--;
      const { type, text } = errorBody(failures.status, failures.code);
      incoming.resume();
      await once(incoming, "end");
      outgoing.writeHead(failures.status, { "content-type": type }).end(text);
      return;
    }
    await sleep(pause, undefined, { ref: false });
    if (outgoing.destroyed) return;
    const answer = await passOn(incoming, outgoing);
    if (lost > 0) {
      lost--;
      answer.resume();
      await once(answer, "end");
      outgoing.destroy();
      return;
    }
    outgoing.writeHead(answer.statusCode!, answer.rawHeaders);
    if (cut > 0 && incoming.method !== "HEAD") {
      cut--;
      const [part] = await once(answer, "data") as [Buffer];
      answer.destroy();
      outgoing.write(part.subarray(0, part.length / 2), () => outgoing.destroy());
      return;
    }
    answer.pipe(outgoing);
  }

  async function passOn(incoming: IncomingMessage, outgoing: ServerResponse): Promise<IncomingMessage> {
    const { method, url: path, rawHeaders } = incoming;
    const passed = request({ hostname, port: upstreamPort, method, path, headers: rawHeaders });
    incoming.pipe(passed);
    // After the answer has come, too: what is still being sent then may find nobody.
    passed.on("error", () => outgoing.headersSent || outgoing.destroy());
    const [answer] = await once(passed, "response") as [IncomingMessage];
    return answer;
  }

  const server = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => outgoing.destroy());
  });
  const listen = async (port: number) => {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
  };
  const close = async () => {
    if (!server.listening) return;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  };
  await listen(0);
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    fail: (count, status, code) => {
      failures = { count, status, code };
    },
    delay: (milliseconds) => {
      pause = milliseconds;
    },
    loseAnswers: (count) => {
      lost = count;
    },
    cutAnswers: (count) => {
      cut = count;
    },
    refuse: close,
    mend: async () => {
      failures.count = 0;
      pause = lost = cut = 0;
      if (!server.listening) await listen(port);
    },
    stop: close,
  };
}
