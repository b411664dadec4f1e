import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectEncrypted } from "node:tls";
import { WebhookFailure } from "./webhook-failure.ts";

/**
 * Connects to an address on behalf of a URL: with TLS where that is https, and then with a certificate of the URL's host.
 * The address is connected to as it is; no name is resolved here.
 *
 * @throws {WebhookFailure} `connection_failed`, `tls_failed` or `timeout`.
 */
export function openSocket(address: string, url: URL, signal: AbortSignal): Promise<Socket> {
  const isEncrypted = url.protocol === "https:";
  const port = Number(url.port || (isEncrypted ? 443 : 80));
  // A host that is an address is the one that is connected to, and the certificate is held against that.
  const servername = [address, `[${address}]`].includes(url.hostname) ? undefined : url.hostname;
  return new Promise((resolve, reject) => {
    const socket = isEncrypted
      ? connectEncrypted({ host: address, port, servername })
      : connectPlain({ host: address, port });
    const giveUp = () => {
      reject(new WebhookFailure("timeout"));
      socket.destroy();
    };
    if (signal.aborted) return giveUp();
    signal.addEventListener("abort", giveUp, { once: true });
    socket.once("close", () => signal.removeEventListener("abort", giveUp));
    socket.on("error", (error) => {
      reject(new WebhookFailure(isAboutTls(error) ? "tls_failed" : "connection_failed"));
      socket.destroy();
    });
    socket.once(isEncrypted ? "secureConnect" : "connect", () => resolve(socket));
  });
}

/** Deno and Node have other codes for the same; both say it in words. */
function isAboutTls(error: Error & { code?: string }): boolean {
  return /certificate|\bcert\b|tls|ssl|handshake|self.signed|peer/i.test(`${error.code} ${error.message}`);
}
