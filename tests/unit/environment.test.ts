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
    exports: { targets: {}, identities: [] },
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

const offsite = {
  endpoint: "https://s3.eu-central-1.example",
  region: "eu-central-1",
  bucket: "backups.of-mine",
  access_key_id: "AKIA_OF_MINE",
  secret_access_key: "of/mine+",
};
const target = (changes: Record<string, unknown>) => JSON.stringify({ offsite: { ...offsite, ...changes } });

test("EXPORT_TARGETS names buckets, with a session's token and a prefix where there are any", () => {
  const readTarget = (changes: Record<string, unknown>) =>
    read({ EXPORT_TARGETS: target(changes) }).exports.targets.offsite;
  expect(readTarget({})).toEqual({
    endpoint: offsite.endpoint,
    region: offsite.region,
    bucket: offsite.bucket,
    accessKeyId: offsite.access_key_id,
    secretAccessKey: offsite.secret_access_key,
    prefix: "",
  });
  expect(readTarget({ session_token: "token" })).toMatchObject({ sessionToken: "token" });
  expect(["a", "a/", "a/b-1"].map((prefix) => readTarget({ prefix })!.prefix)).toEqual(["a/", "a/", "a/b-1/"]);
  for (const endpoint of ["https://a.example/storage/v1/s3/", "http://127.0.0.1:9000", "http://localhost:9000"]) {
    expect(readTarget({ endpoint })!.endpoint).toBe(endpoint.replace(/\/$/, ""));
  }
});

test.for(
  [
    ["an endpoint in the clear", target({ endpoint: "http://sb-secret-of-mine.example" })],
    ["an endpoint with a password", target({ endpoint: "https://me:sb-secret-of-mine@a.example" })],
    ["an endpoint with a query", target({ endpoint: "https://a.example/?sb-secret-of-mine" })],
    ["an endpoint of another kind", target({ endpoint: "file:///sb-secret-of-mine" })],
    ["an endpoint that is none", target({ endpoint: "https://sb-secret-of-mine:port" })],
    ["a bucket with a path", target({ bucket: "sb-secret-of-mine/other" })],
    ["a bucket with two dots", target({ bucket: "sb-secret-of-mine..other" })],
    ["a region with a slash", target({ region: "sb-secret-of-mine/" })],
    ["a prefix that leads out", target({ prefix: "sb-secret-of-mine/../other" })],
    ["a prefix with a slash before it", target({ prefix: "/sb-secret-of-mine" })],
    ["a prefix with an empty segment", target({ prefix: "sb-secret-of-mine//other" })],
    ["no bucket", target({ bucket: undefined })],
    ["an empty key", target({ secret_access_key: "" })],
    ["a key with a blank", target({ access_key_id: "sb-secret-of-mine " })],
    ["a key that is no text", target({ secret_access_key: ["sb-secret-of-mine"] })],
    ["a field that nobody knows", target({ "sb-secret-of-mine": "x" })],
    ["a name with a blank", JSON.stringify({ "sb-secret-of-mine of": offsite })],
    ["a name that is too long", JSON.stringify({ ["sb-secret-of-mine".repeat(4)]: offsite })],
    ["the name of the project's own Storage", JSON.stringify({ supabase: offsite })],
    ["a target that is no object", JSON.stringify({ offsite: "sb-secret-of-mine" })],
    ["a list", JSON.stringify(["sb-secret-of-mine"])],
    ["no JSON", "sb-secret-of-mine"],
  ] as const,
)("EXPORT_TARGETS with %s is refused, and nothing of it shown", ([, value]) => {
  expect(() => read({ EXPORT_TARGETS: value })).toThrow(/EXPORT_TARGETS: (has|is|names) /);
  expect(() => read({ EXPORT_TARGETS: value })).not.toThrow("sb-secret-of-mine");
  expect(() => read({ EXPORT_TARGETS: value })).not.toThrow("of/mine+");
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
