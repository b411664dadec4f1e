import type { Socket } from "node:net";
import { WebhookFailure } from "./webhook-failure.ts";

/** How many characters an answer may have before its status is known: informational answers may come first. */
const maxHead = 16_384;

/**
 * The status of the answer that comes over a connection. Nothing else of it is looked at, and no more of it is read.
 *
 * @throws {WebhookFailure} `invalid_answer`, `connection_lost` or `timeout`.
 */
export function readStatus(socket: Socket, signal: AbortSignal): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    const fail = (code: WebhookFailure["code"]) => reject(new WebhookFailure(code));
    if (signal.aborted) return fail("timeout");
    signal.addEventListener("abort", () => fail("timeout"), { once: true });
    socket.on("error", () => fail("connection_lost"));
    socket.on("close", () => fail("connection_lost"));
    socket.on("end", () => fail("connection_lost"));
    let text = "";
    socket.setEncoding("latin1").on("data", (more: string) => {
      text += more;
      const status = finalStatus(text);
      if (status !== undefined) return resolve(status);
      if (text.length > maxHead || text.includes("\n") && !text.startsWith("HTTP/1.")) fail("invalid_answer");
    });
  }).finally(() => socket.destroy());
}

/** The first status that is not informational; undefined while it has not come. */
function finalStatus(text: string): number | undefined {
  const status = Number(/^HTTP\/1\.\d ([1-5]\d\d)(?: [^\r\n]*)?\r\n/.exec(text)?.[1]);
  if (status >= 200) return status;
  const end = text.indexOf("\r\n\r\n");
  return status && end >= 0 ? finalStatus(text.slice(end + 4)) : undefined;
}
