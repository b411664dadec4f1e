import { expect } from "vitest";
import { credentials, startApi, test as base } from "../support/api.ts";

const here = "https://console.example";
const elsewhere = "https://evil.example";

const test = base.extend("open", { scope: "file" }, async ({}, { onCleanup }) => {
  const api = await startApi("with_product", { environment: { ALLOWED_ORIGINS: `${here}, http://localhost:3000` } });
  onCleanup(api.stop);
  return api;
});

const preflight = (origin: string) => ({
  origin,
  "access-control-request-method": "PUT",
  "access-control-request-headers": "apikey,content-type",
});
const cors = (headers: Headers) => [...headers.keys()].filter((header) => header.startsWith("access-control-"));

test("without ALLOWED_ORIGINS no answer speaks of origins, and a preflight is a method like any other", async ({ api }) => {
  for (
    const [method, path, headers] of [
      ["OPTIONS", "/v1/plans/v1", preflight(here)],
      ["GET", "/v1/plans", { origin: here }],
      ["GET", "/health", { origin: here }],
      ["GET", "/nowhere", { origin: here }],
    ] as const
  ) {
    const answer = await api.call(method, path, { headers });
    expect(cors(answer.headers), `${method} ${path}`).toEqual([]);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    if (method === "OPTIONS") expect(answer).toMatchObject({ status: 405, json: { code: "method_not_allowed" } });
  }
});

test("a preflight is answered without a credential, to pages of the origins that are allowed", async ({ open }) => {
  const answer = await open.call("OPTIONS", "/v1/plans/v1", { credentials: {}, headers: preflight(here) });
  expect(answer.status).toBe(204);
  expect(answer.headers.get("access-control-allow-origin")).toBe(here);
  expect(answer.headers.get("access-control-allow-methods")!.split(",")).toEqual([
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
  ]);
  const allowed = answer.headers.get("access-control-allow-headers")!.split(",");
  expect(allowed).toEqual(
    expect.arrayContaining(["apikey", "authorization", "content-type", "prefer", "idempotency-key"]),
  );
  // The browser sends no cookie and no stored password: a key is a header of the page's own.
  expect(answer.headers.has("access-control-allow-credentials")).toBe(false);
  expect(answer.headers.get("vary")).toContain("Origin");
  expect(answer.headers.get("cache-control")).toBe("no-store");

  const refused = await open.call("OPTIONS", "/v1/plans/v1", { credentials: {}, headers: preflight(elsewhere) });
  expect(refused.headers.has("access-control-allow-origin")).toBe(false);
});

test("every answer to an allowed origin may be read by its page, also an error, and no other page's", async ({ open }) => {
  const asked: [method: string, path: string, who: Record<string, string>, status: number][] = [
    ["GET", "/v1/plans", credentials.admin, 200],
    ["GET", "/v1/plans/v9", credentials.admin, 404],
    ["PUT", "/v1/plans/v9", credentials.admin, 400],
    ["GET", "/v1/keys", credentials.viewer, 403],
    ["GET", "/v1/plans", {}, 401],
    ["PATCH", "/v1/plans", credentials.admin, 405],
    ["GET", "/nowhere", credentials.admin, 404],
    ["GET", "/health", {}, 200],
  ];
  for (const [method, path, who, status] of asked) {
    for (const origin of [here, elsewhere]) {
      const answer = await open.call(method, path, { credentials: who, headers: { origin } });
      const told = `${method} ${path} from ${origin}`;
      expect(answer.status, told).toBe(status);
      expect(answer.headers.get("access-control-allow-origin"), told).toBe(origin === here ? here : null);
      expect(answer.headers.get("access-control-expose-headers"), told).toContain("x-request-id");
      expect(answer.headers.get("vary"), told).toContain("Origin");
      expect(answer.headers.get("cache-control"), told).toBe("no-store");
    }
  }
});

test("with * any page may call", async ({ onTestFinished }) => {
  const api = await startApi("with_product", { environment: { ALLOWED_ORIGINS: "*" } });
  onTestFinished(api.stop);
  const answer = await api.call("GET", "/v1/plans", { headers: { origin: elsewhere } });
  expect(answer.headers.get("access-control-allow-origin")).toBe("*");
});

test("a function with an origin that is none does not start, and says why", async () => {
  await expect(startApi("with_product", { environment: { ALLOWED_ORIGINS: "console.example" } }))
    .rejects.toThrow(/ALLOWED_ORIGINS: is \* alone, or origins/);
});
