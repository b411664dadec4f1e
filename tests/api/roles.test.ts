import { expect } from "vitest";
import { anonKey, publishableKeys, serviceRoleKey, signLegacyToken, signToken } from "../../local/keys.ts";
import { type Role, Role as Roles } from "../../supabase/functions/migration-guard/roles.ts";
import { credentials, giveRoles, test as base } from "../support/api.ts";

const test = base.extend("guarded", { scope: "file" }, async ({ api }) => {
  await giveRoles(api);
  return api;
});

type Operation = { "x-required-role"?: Role; security?: unknown[]; requestBody?: unknown };

const placeholders: Record<string, string> = {
  "{version}": "v10.0",
  "{id}": "00000000-0000-4000-8000-000000000000",
  "{name}": "nobody",
};

const hour = 3600;
const now = Math.floor(Date.now() / 1000);
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
const serviceRole = { role: "service_role", exp: now + hour };

/** Who asks: the role that it has, or the status that refuses it before its role is looked at. */
const callers: [name: string, credentials: Record<string, string>, role: Role | 401 | 403][] = [
  ["no key", {}, 401],
  ["an unknown key", { apikey: "sb_secret_unknown" }, 401],
  ["a publishable key", { apikey: publishableKeys.default }, 403],
  ["an anon token", bearer(anonKey), 403],
  ["a user's token", bearer(await signToken({ sub: "u", role: "authenticated", exp: now + hour })), 403],
  ["an expired token", bearer(await signToken({ role: "service_role", exp: now - hour })), 401],
  ["a token of another project", bearer(`${(await signLegacyToken(serviceRole)).slice(0, -8)}AAAAAAAA`), 401],
  ["a token that nobody signed", bearer(`${part({ alg: "none", typ: "JWT" })}.${part(serviceRole)}.`), 401],
  ["a viewer", credentials.viewer, "viewer"],
  ["an operator", credentials.operator, "operator"],
  ["an admin", credentials.admin, "admin"],
  ["the token of service_role", bearer(serviceRoleKey), "admin"],
];

test("every operation says which role it wants, or asks for no credential", async ({ guarded }) => {
  const { json } = await guarded.call("GET", "/openapi.json");
  const open: string[] = [];
  for (const [path, methods] of Object.entries<Record<string, Operation>>(json.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      if (operation.security?.length === 0) open.push(`${method} ${path}`);
      else expect(Roles.options, `${method} ${path}`).toContain(operation["x-required-role"]);
    }
  }
  expect(open).toEqual(["get /health"]);
});

test.for(callers)(
  "every operation lets %s in or keeps it out, as the document says",
  async ([name, who, role], { guarded }) => {
    const { call, database: { sql } } = guarded;
    const { json } = await call("GET", "/openapi.json");
    let refused = 0;
    let passed = 0;
    for (const [template, methods] of Object.entries<Record<string, Operation>>(json.paths)) {
      const path = template.replace(/\{\w+\}/g, (name) => placeholders[name]!);
      for (const [method, operation] of Object.entries(methods)) {
        const needed = operation["x-required-role"];
        const answer = await call(method.toUpperCase(), path, { credentials: who });
        const told = `${name}: ${method} ${template} gave ${answer.status}`;
        if (!needed) {
          expect(answer.status, told).toBe(200);
        } else if (typeof role === "number") {
          expect(answer.status, told).toBe(role);
          refused++;
        } else if (Roles.options.indexOf(role) < Roles.options.indexOf(needed)) {
          expect(answer.json, told).toMatchObject({ status: 403, code: "role_required", role, required: needed });
          refused++;
        } else {
          expect([401, 403], told).not.toContain(answer.status);
          expect(answer.status, told).toBeLessThan(500);
          passed++;
        }
      }
    }
    expect(role === "admin" || refused > 0).toBe(true);
    expect(typeof role === "number" || passed > 0).toBe(true);
    expect(
      await sql`select from migration_guard.jobs union all select from migration_guard.plans
      union all select from migration_guard.cleanup_tokens`,
    ).toHaveLength(0);
  },
);
