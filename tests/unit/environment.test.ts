import { generateHybridIdentity, generateIdentity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { readEnvironment } from "../../supabase/functions/migration-guard/environment.ts";

const complete: Record<string, string> = {
  SUPABASE_URL: "https://project.supabase.co/",
  SUPABASE_DB_URL: "postgresql://postgres:a-password@db.project.supabase.co:5432/postgres",
  SUPABASE_SECRET_KEYS: '{"default": "sb_secret_a", "ci": "sb_secret_b"}',
  SUPABASE_PUBLISHABLE_KEYS: '{"default": "sb_publishable_a"}',
  SUPABASE_SERVICE_ROLE_KEY: "a.b.c",
  SUPABASE_JWKS: '{"keys": [{"kty": "EC", "kid": "1"}]}',
};
const read = (changes: Record<string, string | undefined>) => {
  const variables = { ...complete, ...changes };
  return readEnvironment((name) => variables[name]);
};

test("the platform's variables are read", () => {
  expect(read({})).toEqual({
    url: "https://project.supabase.co",
    databaseUrl: complete.SUPABASE_DB_URL,
    secretKeys: { default: "sb_secret_a", ci: "sb_secret_b" },
    publishableKeys: { default: "sb_publishable_a" },
    serviceRoleKey: "a.b.c",
    jwks: { keys: [{ kty: "EC", kid: "1" }] },
    webhooks: { secret: undefined, allowPrivate: false },
    allowedOrigins: [],
    exports: { identities: [] },
  });
});

test("age identities stand in any order, as in the files of age-keygen, each once", async () => {
  const [first, second] = [await generateIdentity(), await generateHybridIdentity()];
  const identities = (EXPORT_AGE_IDENTITIES: string) => read({ EXPORT_AGE_IDENTITIES }).exports.identities;
  expect(identities(`# created: 2026\n# public key: ${await identityToRecipient(first)}\n${first}\n`)).toEqual([first]);
  expect(identities(`${second},${first} ${second}`)).toEqual([second, first]);
});

test("a wrong age identity is refused, and never shown", async () => {
  const identity = await generateIdentity();
  const other = identity.at(-1) === "Q" ? "P" : "Q";
  const texts = [
    identity.slice(0, -1),
    identity.slice(0, -1) + other,
    identity.toLowerCase(),
    `${identity};${identity}`,
    `# public key: one line ${identity}`,
    await identityToRecipient(identity),
    `AGE-PLUGIN-YUBIKEY-1${identity.slice(-20)}`,
  ];
  for (const text of texts) {
    expect(() => read({ EXPORT_AGE_IDENTITIES: text })).toThrow(/EXPORT_AGE_IDENTITIES: is AGE-SECRET-KEY-1/);
    expect(() => read({ EXPORT_AGE_IDENTITIES: text })).not.toThrow(text.slice(-20));
  }
});

test.for(
  [
    ["*", "*"],
    [" ", []],
    ["https://a.example, http://localhost:3000", ["https://a.example", "http://localhost:3000"]],
  ] as const,
)("ALLOWED_ORIGINS may be %s", ([value, origins]) => {
  expect(read({ ALLOWED_ORIGINS: value }).allowedOrigins).toEqual(origins);
});

test("a secret of 24 to 64 bytes signs webhooks, and a private network must be allowed by name", () => {
  const secret = `whsec_${btoa("x".repeat(24))}`;
  const variables = { MIGRATION_GUARD_WEBHOOK_SECRET: secret, MIGRATION_GUARD_ALLOW_PRIVATE_WEBHOOKS: "true" };
  expect(read(variables).webhooks).toEqual({ secret, allowPrivate: true });
  expect(read({ MIGRATION_GUARD_WEBHOOK_SECRET: "" }).webhooks).toEqual({ secret: undefined, allowPrivate: false });
});

test("a project without new keys, without tokens, or with a bare list of keys, is read too", () => {
  expect(read({ SUPABASE_SECRET_KEYS: undefined, SUPABASE_PUBLISHABLE_KEYS: "", SUPABASE_JWKS: undefined }))
    .toMatchObject({ secretKeys: {}, publishableKeys: {}, jwks: { keys: [] } });
  expect(read({ SUPABASE_JWKS: '[{"kty": "EC"}]' }).jwks).toEqual({ keys: [{ kty: "EC" }] });
});

test.for(
  [
    ["SUPABASE_URL", undefined],
    ["SUPABASE_DB_URL", undefined],
    ["SUPABASE_URL", "project"],
    ["SUPABASE_SECRET_KEYS", '{"default": sb_secret_of_mine'],
    ["SUPABASE_SECRET_KEYS", '["sb_secret_of_mine"]'],
    ["SUPABASE_JWKS", "sb_secret_of_mine"],
    ["MIGRATION_GUARD_WEBHOOK_SECRET", "sb_secret_of_mine"],
    ["MIGRATION_GUARD_WEBHOOK_SECRET", `whsec_${btoa("sb_secret_of_mine")}`],
    ["MIGRATION_GUARD_ALLOW_PRIVATE_WEBHOOKS", "yes, sb_secret_of_mine"],
    ["ALLOWED_ORIGINS", "a.example, sb_secret_of_mine"],
    ["ALLOWED_ORIGINS", "https://a.example/sb_secret_of_mine"],
    ["ALLOWED_ORIGINS", "https://A.example"],
    ["ALLOWED_ORIGINS", "https://a.example, *"],
    ["ALLOWED_ORIGINS", "null"],
  ] as const,
)("a wrong %s (%s) is named, and its value never shown", ([name, value]) => {
  expect(() => read({ [name]: value })).toThrow(name);
  expect(() => read({ [name]: value })).not.toThrow("sb_secret_of_mine");
});
