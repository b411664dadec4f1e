import { createPublicKey } from "node:crypto";
import { decodeJwt, SignJWT } from "jose";
import { expect } from "vitest";
import {
  anonKey,
  jwks,
  publishableKeys,
  secretKeys,
  serviceRoleKey,
  signLegacyToken,
  signToken,
} from "../../local/keys.ts";
import { type Role, Role as Roles } from "../../supabase/functions/migration-guard/roles.ts";
import { type Answer, type Api, credentials, giveRoles, test as base } from "../support/api.ts";

const test = base.extend("guarded", { scope: "file" }, async ({ api }) => {
  await giveRoles(api);
  return api;
});

type Operation = { method: string; path: string; required?: Role; isOpen: boolean };

/** Every operation of the document. */
async function operations({ call }: Api): Promise<Operation[]> {
  const { json } = await call("GET", "/openapi.json", { credentials: {} });
  type Methods = Record<string, { "x-required-role"?: Role; security?: unknown[] }>;
  return Object.entries<Methods>(json.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { security, "x-required-role": required }]) => ({
      method: method.toUpperCase(),
      path,
      required,
      isOpen: security?.length === 0,
    }))
  );
}

const placeholders: Record<string, string> = {
  "{version}": "v10.0",
  "{id}": "00000000-0000-4000-8000-000000000000",
  "{name}": "nobody",
};
const concrete = (path: string) => path.replace(/\{\w+\}/g, (name) => placeholders[name]!);

const hour = 3600;
const now = Math.floor(Date.now() / 1000);
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const serviceRole = { role: "service_role", exp: now + hour };
const user = { sub: "u", role: "authenticated", exp: now + hour };
const elsewhere = { iss: "https://another.supabase.co/auth/v1" };

const publicKey = jwks.keys[0] as JsonWebKey & { kid: string };

/** A token that the public half of the key has signed, as if that were a shared secret. */
const confused = await new SignJWT(serviceRole)
  .setProtectedHeader({ alg: "HS256", kid: publicKey.kid })
  .sign(
    Buffer.from(createPublicKey({ key: publicKey, format: "jwk" }).export({ type: "spki", format: "pem" })),
  );

type Refusal = { status: 401 | 403; code: string };
const missing: Refusal = { status: 401, code: "missing_credentials" };
const invalid: Refusal = { status: 401, code: "invalid_credentials" };
const expired: Refusal = { status: 401, code: "expired_token" };
const noServiceRole: Refusal = { status: 403, code: "service_role_required" };

/** Who is kept out, whatever is asked for. */
const refused: [name: string, credentials: Record<string, string>, refusal: Refusal][] = [
  ["no key", {}, missing],
  ["an empty key", { apikey: "" }, missing],
  ["a name and a password", { authorization: `Basic ${btoa("default:postgres")}` }, missing],
  ["an unknown key", { apikey: "sb_secret_unknown" }, invalid],
  ["a secret key with one character more", { apikey: `${secretKeys.default}x` }, invalid],
  ["a secret key as a bearer token alone", bearer(secretKeys.default), invalid],
  ["the name of a key", { apikey: "default" }, invalid],
  ["a publishable key", { apikey: publishableKeys.default }, noServiceRole],
  ["the legacy anon key", bearer(anonKey), noServiceRole],
  ["an anon token", bearer(await signToken({ role: "anon", exp: now + hour })), noServiceRole],
  ["a user's token", bearer(await signToken(user)), noServiceRole],
  ["a user's legacy token", bearer(await signLegacyToken(user)), noServiceRole],
  ["a publishable key with a user's token", {
    apikey: publishableKeys.default,
    ...bearer(await signToken(user)),
  }, noServiceRole],
  ["a token without a role", bearer(await signToken({ sub: "u", exp: now + hour })), noServiceRole],
  ["an expired token", bearer(await signToken({ ...user, exp: now - hour })), expired],
  ["an expired service_role token", bearer(await signToken({ ...serviceRole, exp: now - hour })), expired],
  ["a service_role token for later", bearer(await signToken({ ...serviceRole, nbf: now + hour })), invalid],
  ["a service_role token of another issuer", bearer(await signToken({ ...serviceRole, ...elsewhere })), invalid],
  [
    "a service_role token of another issuer with the legacy secret",
    bearer(
      await signLegacyToken({ ...serviceRole, ...elsewhere }),
    ),
    invalid,
  ],
  ["a user's token of another issuer", bearer(await signToken({ ...user, ...elsewhere })), invalid],
  [
    "a service_role token that nobody signed",
    bearer(
      `${part({ alg: "none", typ: "JWT" })}.${part(serviceRole)}.`,
    ),
    invalid,
  ],
  [
    "a service_role token with another's signature",
    bearer(
      `${serviceRoleKey.split(".").slice(0, 2).join(".")}.AAAA`,
    ),
    invalid,
  ],
  ["a service_role token signed with the public key", bearer(confused), invalid],
  ["no token at all", bearer("nonsense"), invalid],
];

const accepted: [name: string, credentials: Record<string, string>, actor: string, role: Role][] = [
  ["a viewer", credentials.viewer, "watcher", "viewer"],
  ["an operator", credentials.operator, "night_shift", "operator"],
  ["an admin", credentials.admin, "default", "admin"],
  [
    "a secret key as supabase-js sends it",
    {
      apikey: secretKeys.default,
      ...bearer(secretKeys.default),
    },
    "default",
    "admin",
  ],
  ["the legacy service_role key", bearer(serviceRoleKey), "service_role", "admin"],
  [
    "the legacy service_role key beside a publishable key",
    {
      apikey: publishableKeys.default,
      ...bearer(serviceRoleKey),
    },
    "service_role",
    "admin",
  ],
  ["a service_role token of the project's key", bearer(await signToken(serviceRole)), "service_role", "admin"],
  ["a service_role token of the legacy secret", bearer(await signLegacyToken(serviceRole)), "service_role", "admin"],
];

type Asked = Operation & { requestId: string; answer: Answer };

/** Every operation that wants a credential, and a path that is not there, as somebody asks for them. */
async function askForAll(api: Api, name: string, who: Record<string, string>): Promise<Asked[]> {
  const nowhere: Operation = { method: "GET", path: "/nowhere", isOpen: false };
  const guarded = (await operations(api)).filter(({ isOpen }) => !isOpen);
  return Promise.all([...guarded, nowhere].map(async (operation) => {
    const requestId = `${name} ${operation.method} ${operation.path}`.replaceAll(/[^\w-]+/g, "-");
    const headers = { "x-request-id": requestId };
    const answer = await api.call(operation.method, concrete(operation.path), { credentials: who, headers });
    return { ...operation, requestId, answer };
  }));
}

function expectRefusal({ method, path, answer }: Asked, { status, code }: Refusal, more: string[] = []) {
  const told = `${method} ${path}`;
  expect(answer.status, told).toBe(status);
  expect(answer.headers.get("content-type"), told).toBe("application/problem+json");
  expect(answer.headers.get("cache-control"), told).toBe("no-store");
  expect(answer.headers.get("www-authenticate"), told).toBe(status === 401 ? 'Bearer realm="migration-guard"' : null);
  expect([...answer.headers.keys()].filter((header) => header.startsWith("access-control")), told).toEqual([]);
  expect(answer.json, told).toMatchObject({ code, status, instance: answer.headers.get("x-request-id") });
  expect(Object.keys(answer.json).sort(), told)
    .toEqual(["code", "detail", "instance", "status", "title", "type", ...more].sort());
}

/** What the trail has of requests, when each of them is in it. */
async function entriesOf({ database: { sql } }: Api, asked: Asked[]) {
  type Entry = { request_id: string; actor: string | null; outcome: string; parameters: Record<string, unknown> };
  const ids = asked.map(({ requestId }) => requestId);
  const read = () =>
    sql<Entry[]>`
    select request_id, actor, outcome, parameters from migration_guard.audit_log where request_id = any(${ids})`;
  await expect.poll(async () => (await read()).length, { timeout: 30_000 }).toBeGreaterThanOrEqual(ids.length);
  return Map.groupBy(await read(), ({ request_id }) => request_id);
}

async function expectNothingMade({ database: { sql } }: Api) {
  expect(
    await sql`select from migration_guard.jobs union all select from migration_guard.plans
    union all select from migration_guard.cleanup_tokens union all select from migration_guard.rollback_plans`,
  ).toHaveLength(0);
}

test("every operation says which role it wants, or asks for no credential", async ({ guarded }) => {
  const all = await operations(guarded);
  expect(all.filter(({ isOpen }) => isOpen).map(({ method, path }) => `${method} ${path}`)).toEqual(["GET /health"]);
  for (const { method, path, required } of all.filter(({ isOpen }) => !isOpen)) {
    expect(Roles.options, `${method} ${path}`).toContain(required);
  }
});

test.for(refused)("%s is kept out of everything, told no more than that, and recorded", async (
  [name, who, refusal],
  { guarded },
) => {
  const asked = await askForAll(guarded, name, who);
  for (const one of asked) expectRefusal(one, refusal);
  // The same for what is there and for what is not, and nothing of what was sent.
  expect(new Set(asked.map(({ answer }) => JSON.stringify({ ...answer.json, instance: null }))).size).toBe(1);
  const secrets = Object.values(who).flatMap((value) => value.split(" ")).filter((value) => value.length > 7);
  for (const secret of secrets) expect(asked[0]!.answer.text).not.toContain(secret);

  const entries = await entriesOf(guarded, asked);
  for (const { requestId, method, path } of asked) {
    expect(entries.get(requestId), requestId).toMatchObject([{
      actor: null,
      outcome: "refused",
      parameters: { method, ...refusal },
    }]);
    if (path !== "/nowhere") expect(entries.get(requestId)![0]!.parameters.path).toBe(path);
  }
  expect(JSON.stringify([...entries.values()])).not.toMatch(/sb_|eyJ/);
  await expectNothingMade(guarded);
});

test.for(accepted)(
  "%s may do what the document says, and nothing else",
  async ([name, who, actor, role], { guarded }) => {
    const asked = (await askForAll(guarded, name, who)).filter(({ path }) => path !== "/nowhere");
    const isOver = ({ required }: Operation) => Roles.options.indexOf(required!) > Roles.options.indexOf(role);
    const kept = asked.filter(isOver);
    for (const one of kept) {
      expectRefusal(one, { status: 403, code: "role_required" }, ["role", "required"]);
      expect(one.answer.json).toMatchObject({ role, required: one.required });
    }
    for (const { method, path, answer } of asked.filter((operation) => !isOver(operation))) {
      expect([401, 403], `${method} ${path}`).not.toContain(answer.status);
      expect(answer.status, `${method} ${path}`).toBeLessThan(500);
    }
    expect(role === "admin").toBe(kept.length === 0);
    expect(asked.length - kept.length).toBeGreaterThan(5);
    const entries = await entriesOf(guarded, kept);
    for (const { requestId, method, path, required } of kept) {
      expect(entries.get(requestId), requestId).toMatchObject([{
        ...{ actor, outcome: "refused" },
        parameters: { method, path, required, status: 403, code: "role_required" },
      }]);
    }
    await expectNothingMade(guarded);
  },
);

test("a token of the project's own Auth, and of who issues legacy keys, is taken", async ({ guarded }) => {
  for (const iss of [`${guarded.stack.url}/auth/v1`, "supabase", decodeJwt(serviceRoleKey).iss!]) {
    const answer = await guarded.call("GET", "/v1/plans", {
      credentials: bearer(await signToken({ ...serviceRole, iss })),
    });
    expect(answer.status, iss).toBe(200);
  }
});

test("who is let in is the actor of what it does", async ({ freshApi }) => {
  await giveRoles(freshApi);
  for (const [name, who, actor, role] of accepted) {
    if (role === "viewer") continue;
    const answer = await freshApi.call("PUT", "/v1/plans/v77", { credentials: who, json: { tables: ["profiles"] } });
    expect(answer.json, name).toMatchObject({ version: "v77.0", actor });
  }
});
