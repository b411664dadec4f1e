import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { type AddressInfo, createServer as createPlainServer } from "node:net";
import { expect, test } from "vitest";
import { Webhook as Verifier } from "standardwebhooks";
import { assertNotifyUrl } from "../../supabase/functions/migration-guard/assert-notify-url.ts";
import { isPublicAddress } from "../../supabase/functions/migration-guard/is-public-address.ts";
import type { Lookup } from "../../supabase/functions/migration-guard/resolve-webhook-host.ts";
import { sendWebhook } from "../../supabase/functions/migration-guard/send-webhook.ts";

const secret = `whsec_${btoa("a secret of twenty-four..")}`;
const message = {
  id: "msg_1",
  unix_time: Math.floor(Date.now() / 1000),
  payload: '{"type": "job.succeeded", "a": "é"}',
};

/** A name server that gives one list of addresses after the other, and the last one for ever. */
function names(...answers: string[][]) {
  const asked: string[] = [];
  const lookup: Lookup = (name) => {
    const addresses = answers[Math.min(asked.length, answers.length - 1)]!;
    asked.push(name);
    return Promise.resolve(addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })));
  };
  return { asked, lookup };
}

async function receive(onTestFinished: (end: () => void) => void, listener: RequestListener) {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

test.for(
  [
    ["8.8.8.8", true],
    ["2606:4700::1111", true],
    ["127.0.0.1", false],
    ["0.0.0.0", false],
    ["10.1.2.3", false],
    ["172.16.0.1", false],
    ["192.168.1.1", false],
    ["169.254.169.254", false],
    ["100.64.0.1", false],
    ["192.0.0.1", false],
    ["198.18.0.1", false],
    ["203.0.113.1", false],
    ["224.0.0.1", false],
    ["255.255.255.255", false],
    ["::", false],
    ["::1", false],
    ["::127.0.0.1", false],
    ["::ffff:127.0.0.1", false],
    ["::ffff:8.8.8.8", false],
    ["::ffff:0:7f00:1", false],
    ["64:ff9b::7f00:1", false],
    ["64:ff9b:1::7f00:1", false],
    ["2002:7f00:1::", false],
    ["2001::1", false],
    ["2001:db8::1", false],
    ["fc00::1", false],
    ["fe80::1", false],
    ["fe80::1%eth0", false],
    ["fec0::1", false],
    ["ff02::1", false],
    ["5f00::1", false],
    ["localhost", false],
  ] as const,
)("%s is a public address: %s", ([address, isPublic]) => {
  expect(isPublicAddress(address)).toBe(isPublic);
});

test("a message arrives as one POST that the library verifies, and the name is resolved once, to where it goes", async ({ onTestFinished }) => {
  let body = "";
  let seen: { method?: string; url?: string; headers: Record<string, string> } | undefined;
  const port = await receive(onTestFinished, (request, response) => {
    request.setEncoding("utf8").on("data", (text) => body += text).on("end", () => {
      seen = { method: request.method, url: request.url, headers: request.headers as Record<string, string> };
      response.writeHead(202).end("a body that nobody reads");
    });
  });
  // The name is known to no other name server, and the second answer would lead elsewhere.
  const { asked, lookup } = names(["127.0.0.1"], ["192.0.2.1"]);
  const url = `http://hook.example:${port}/a?b=c`;
  expect(await sendWebhook({ ...message, url }, { secret, allowPrivate: true, lookup })).toBe(202);
  expect(asked).toEqual(["hook.example"]);
  expect(seen).toMatchObject({
    method: "POST",
    url: "/a?b=c",
    headers: { host: `hook.example:${port}`, "content-type": "application/json" },
  });
  expect(body).toBe(message.payload);
  expect(new Verifier(secret).verify(body, seen!.headers)).toEqual(JSON.parse(message.payload));
  expect(() => new Verifier(secret).verify(body + " ", seen!.headers)).toThrow("signature");
  expect(() => new Verifier(`whsec_${btoa("another of twenty-four...")}`).verify(body, seen!.headers)).toThrow(
    "signature",
  );
});

test("a name with one address that is not public gets nothing, whatever it resolved to before", async ({ onTestFinished }) => {
  let requests = 0;
  const port = await receive(onTestFinished, (_, response) => {
    requests++;
    response.end();
  });
  const { asked, lookup } = names(["8.8.8.8"], ["8.8.8.8", "127.0.0.1"]);
  const url = `https://hook.example:${port}/`;
  await assertNotifyUrl(url, { secret, allowPrivate: false }, lookup);
  await expect(sendWebhook({ ...message, url }, { secret, allowPrivate: false, lookup })).rejects
    .toMatchObject({ code: "address_not_public" });
  expect([asked.length, requests]).toEqual([2, 0]);
});

test("where one of its addresses takes no connection the next one is tried", async ({ onTestFinished }) => {
  const port = await receive(onTestFinished, (_, response) => response.end());
  const { lookup } = names(["127.0.0.2", "127.0.0.1"]);
  expect(await sendWebhook({ ...message, url: `http://hook.example:${port}` }, { secret, allowPrivate: true, lookup }))
    .toBe(200);
});

test.for<[string, RequestListener, number]>([
  ["a redirect is not followed", (_, response) => response.writeHead(307, { location: "/elsewhere" }).end(), 307],
  ["an error is told", (_, response) => response.writeHead(503).end(), 503],
  ["an informational answer is passed over", (_, response) => {
    response.writeEarlyHints({ link: "</a>; rel=preload" });
    response.writeHead(204).end();
  }, 204],
  ["an answer without end is not waited for", (_, response) => response.writeHead(200).write("a"), 200],
])("%s", async ([, listener, status], { onTestFinished }) => {
  let requests = 0;
  const port = await receive(onTestFinished, (request, response) => {
    requests++;
    listener(request, response as Parameters<RequestListener>[1]);
  });
  expect(await sendWebhook({ ...message, url: `http://127.0.0.1:${port}/` }, { secret, allowPrivate: true })).toBe(
    status,
  );
  expect(requests).toBe(1);
});

test.for(
  [
    ["timeout", undefined],
    ["connection_lost", ""],
    ["invalid_answer", "SSH-2.0-OpenSSH_9.2\r\n"],
    ["invalid_answer", "a".repeat(20_000)],
  ] as const,
)("a receiver is given up: %s", async ([code, answer], { onTestFinished }) => {
  const server = createPlainServer((socket) => {
    if (answer !== undefined) socket.end(answer);
    socket.on("error", () => {});
    onTestFinished(() => socket.destroy() && undefined);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => server.close() && undefined);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  await expect(sendWebhook({ ...message, url }, { secret, allowPrivate: true, timeLimit: 300 })).rejects
    .toMatchObject({ code });
});

test("nobody there, and a name that is none, are told from one another", async () => {
  const options = { secret, allowPrivate: true };
  await expect(sendWebhook({ ...message, url: "http://127.0.0.1:1/" }, options)).rejects.toMatchObject({
    code: "connection_failed",
  });
  await expect(sendWebhook({ ...message, url: "http://nowhere.invalid/" }, options)).rejects.toMatchObject({
    code: "name_not_found",
  });
});

test.for([
  "https://127.0.0.1/",
  "https://127.1/",
  "https://2130706433/",
  "https://0x7f.1/",
  "https://[::1]/",
  "https://[::ffff:10.0.0.1]/",
  "https://169.254.169.254/latest",
  "https://localhost/",
  "https://999.1.1.1/",
  "https://example.com:99999/",
  "http://localhost/",
])("a plan with %s is refused where private addresses are not allowed", async (url) => {
  await expect(assertNotifyUrl(url, { secret, allowPrivate: false })).rejects
    .toMatchObject({ code: "invalid_plan", message: expect.stringContaining("notify_url") });
});

test("a name that cannot be resolved now may be in a plan; one without a secret to sign with may not", async () => {
  await assertNotifyUrl("https://nowhere.invalid/", { secret, allowPrivate: false });
  await assertNotifyUrl(null, { allowPrivate: false });
  await expect(assertNotifyUrl("https://nowhere.invalid/", { allowPrivate: false })).rejects
    .toMatchObject({ code: "webhook_secret_missing" });
});

test("openssl makes the same signature", async ({ skip, onTestFinished }) => {
  if (spawnSync("openssl", ["version"]).status !== 0) return skip("openssl is not installed: apt-get install openssl");
  let signature: unknown;
  const port = await receive(onTestFinished, (request, response) => {
    signature = request.headers["webhook-signature"];
    response.end();
  });
  await sendWebhook({ ...message, url: `http://127.0.0.1:${port}` }, { secret, allowPrivate: true });
  const key = Buffer.from(secret.slice("whsec_".length), "base64").toString("hex");
  const { stdout } = spawnSync("openssl", ["dgst", "-sha256", "-mac", "HMAC", "-macopt", `hexkey:${key}`, "-binary"], {
    input: `${message.id}.${message.unix_time}.${message.payload}`,
  });
  expect(signature).toBe(`v1,${stdout.toString("base64")}`);
});
