import { describe, expect } from "vitest";
import { anonKey, publishableKeys, secretKeys, serviceRoleKey, signLegacyToken, signToken } from "../../local/keys.ts";
import { startApi, test } from "../support/api.ts";

const now = Math.floor(Date.now() / 1000);
const hour = 3600;
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const unsigned = (payload: object) => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none", typ: "JWT" })}.${part(payload)}.`;
};

const refused: [name: string, credentials: Record<string, string>, status: number, code: string][] = [
  ["no key", {}, 401, "missing_credentials"],
  ["an unknown key", { apikey: "sb_secret_unknown" }, 401, "invalid_credentials"],
  ["a secret key with one character more", { apikey: `${secretKeys.default}x` }, 401, "invalid_credentials"],
  ["an empty key", { apikey: "" }, 401, "missing_credentials"],
  ["a secret key as a bearer token alone", bearer(secretKeys.default), 401, "invalid_credentials"],
  ["a publishable key", { apikey: publishableKeys.default }, 403, "service_role_required"],
  ["the legacy anon key", bearer(anonKey), 403, "service_role_required"],
  [
    "a user's token",
    bearer(await signToken({ sub: "u", role: "authenticated", exp: now + hour })),
    403,
    "service_role_required",
  ],
  [
    "a user's legacy token",
    bearer(await signLegacyToken({ sub: "u", role: "authenticated", exp: now + hour })),
    403,
    "service_role_required",
  ],
  [
    "a publishable key with a user's token",
    {
      apikey: publishableKeys.default,
      ...bearer(await signToken({ sub: "u", role: "authenticated", exp: now + hour })),
    },
    403,
    "service_role_required",
  ],
  ["a token without a role", bearer(await signToken({ sub: "u", exp: now + hour })), 403, "service_role_required"],
  [
    "an expired token",
    bearer(await signToken({ sub: "u", role: "authenticated", exp: now - hour })),
    401,
    "expired_token",
  ],
  [
    "an expired service_role token",
    bearer(await signToken({ role: "service_role", exp: now - hour })),
    401,
    "expired_token",
  ],
  [
    "a service_role token for later",
    bearer(await signToken({ role: "service_role", nbf: now + hour, exp: now + 2 * hour })),
    401,
    "invalid_credentials",
  ],
  [
    "an unsigned service_role token",
    bearer(unsigned({ role: "service_role", exp: now + hour })),
    401,
    "invalid_credentials",
  ],
  [
    "a service_role token of another project",
    bearer(`${serviceRoleKey.split(".").slice(0, 2).join(".")}.AAAA`),
    401,
    "invalid_credentials",
  ],
  ["no token at all", bearer("nonsense"), 401, "invalid_credentials"],
];

describe("every path but /health and /openapi.json", async () => {
  for (const [name, credentials, status, code] of refused) {
    test(`refuses ${name} with ${status} ${code}`, async ({ api }) => {
      for (
        const [method, path] of [["GET", "/v1/backups"], ["POST", "/v1/backups"], ["GET", "/ready"], [
          "GET",
          "/nowhere",
        ]]
      ) {
        const answer = await api.call(method!, path!, {
          credentials,
          json: method === "POST" ? { version: "v10.0" } : undefined,
        });
        expect(answer.status, `${method} ${path}`).toBe(status);
        expect(answer.headers.get("content-type")).toBe("application/problem+json");
        expect(answer.headers.has("www-authenticate")).toBe(status === 401);
        expect(answer.json).toMatchObject({ code, status, instance: answer.headers.get("x-request-id") });
      }
      expect(await api.database.sql`select from migration_guard.jobs`).toHaveLength(0);
    });
  }

  const accepted: [name: string, credentials: Record<string, string>, actor: string][] = [
    ["the default secret key", { apikey: secretKeys.default }, "default"],
    ["a secret key as supabase-js sends it", { apikey: secretKeys.default, ...bearer(secretKeys.default) }, "default"],
    ["the legacy service_role key", bearer(serviceRoleKey), "service_role"],
    ["the legacy service_role key beside a publishable key", {
      apikey: publishableKeys.default,
      ...bearer(serviceRoleKey),
    }, "service_role"],
    [
      "a service_role token that the project's key has signed",
      bearer(await signToken({ role: "service_role", exp: now + hour })),
      "service_role",
    ],
    [
      "a service_role token that the legacy secret has signed",
      bearer(await signLegacyToken({ role: "service_role", exp: now + hour })),
      "service_role",
    ],
  ];
  for (const [name, credentials, actor] of accepted) {
    test(`accepts ${name}, as the actor ${actor}`, async ({ api }) => {
      const answer = await api.call("PUT", "/v1/plans/v77", { credentials, json: { tables: ["profiles"] } });
      expect(answer.json).toMatchObject({ version: "v77.0", actor });
    });
  }
});

test("a project needs neither a publishable key called default nor any secret key", async ({ onTestFinished }) => {
  const keys: [name: string, environment: Record<string, string>, credentials: Record<string, string>][] = [
    ["no publishable key", { SUPABASE_PUBLISHABLE_KEYS: "{}" }, { apikey: secretKeys.default }],
    ["one of another name", { SUPABASE_PUBLISHABLE_KEYS: '{"web": "sb_publishable_web"}' }, {
      apikey: secretKeys.default,
    }],
    ["an empty secret key", { SUPABASE_SECRET_KEYS: '{"default": ""}' }, bearer(serviceRoleKey)],
    ["legacy keys alone", { SUPABASE_SECRET_KEYS: "", SUPABASE_PUBLISHABLE_KEYS: "" }, bearer(serviceRoleKey)],
  ];
  for (const [name, environment, credentials] of keys) {
    const api = await startApi("with_product", { environment });
    onTestFinished(api.stop);
    expect((await api.call("GET", "/v1/plans", { credentials })).json, name).toEqual({ plans: [] });
  }
});

test("a named secret key gives its name to what it does", async ({ onTestFinished }) => {
  const api = await startApi("with_example", {
    secretKeys: { ...secretKeys, night_shift: "sb_secret_of_the_night_shift" },
  });
  onTestFinished(api.stop);
  const credentials = { apikey: "sb_secret_of_the_night_shift" };
  expect((await api.call("PUT", "/v1/keys/night_shift", { json: { role: "operator" } })).status).toBe(200);
  expect((await api.call("PUT", "/v1/plans/v3", { credentials, json: { tables: ["profiles"] } })).status).toBe(201);
  const job = await api.call("POST", "/v1/backups", { credentials, json: { version: "v3" }, wait: 60 });
  expect(job.json).toMatchObject({ status: "succeeded", actor: "night_shift" });
  expect((await api.call("GET", "/v1/backups/v3")).json).toMatchObject({
    actor: "night_shift",
    metadata: { actor: "night_shift" },
  });
});
