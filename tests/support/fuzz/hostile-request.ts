import fc from "fast-check";
import type { Operation } from "./document.ts";
import { brokenJson, contentTypes, hostileSql, hostileText, hostileValue, oddHeaders } from "./hostile.ts";
import type { Sent } from "./send.ts";

/** What the database has that a request may name. */
export type Known = { jobId: string };

/**
 * Operations that would do something if all of a request were right. They get no body that is; what the others would do takes
 * a token, the hash of a plan, or a job that runs.
 */
const working = /^(PUT \/v1\/(plans|keys)\/|POST \/v1\/backups\/\{version\}\/(verify|diff|confirm|exports)$)/;

/** Bytes that stand for themselves in a path, and those of half a surrogate pair besides. */
const encoded = (text: string) =>
  text.replaceAll(/[^]/gu, (char) => char.isWellFormed() ? encodeURIComponent(char) : "%ED%A0%80");

/** Characters that a request line may have. */
const raw = (text: string) => text.replaceAll(/[^\x21-\x7e]|#/g, "");

function parameterValue({ name }: { name: string }, { jobId }: Known): fc.Arbitrary<string> {
  const good = {
    // To read what there is takes the database longer than all else.
    version: fc.constantFrom("v10", "v99", "v99.0", "v0", "v98", "v97", "v999999.999999", "20260101000000"),
    id: fc.constantFrom(jobId, "00000000-0000-4000-8000-000000000000"),
    name: fc.constantFrom("nobody", "some%20body"),
  }[name] ?? fc.constant("x");
  return fc.oneof(
    { weight: 5, arbitrary: good },
    { weight: 2, arbitrary: hostileText.map(encoded) },
    { weight: 1, arbitrary: hostileText.map(raw) },
  );
}

function pathOf({ path, parameters }: Operation, known: Known): fc.Arbitrary<string> {
  const inPath = parameters.filter((parameter) => parameter.in === "path");
  const values = fc.tuple(...inPath.map((parameter) => parameterValue(parameter, known)));
  const inQuery = parameters.filter((parameter) => parameter.in === "query").map(({ name }) => name);
  const pair = fc.tuple(
    fc.constantFrom(...inQuery, ...inQuery, "pretty", "select", "__proto__", "version"),
    fc.oneof(
      hostileText,
      fc.constantFrom("1", "v10", "keep", "all", "true", "profiles:restore", "2026-01-01T00:00:00Z"),
    ),
  ).map(([name, value]) => `${name}=${encoded(value)}`);
  // A name that comes twice is more likely than it looks: there are few.
  const query = fc.oneof(
    // A path that has no parameters refuses any, and nothing else is tried then.
    { weight: inQuery.length > 0 ? 3 : 60, arbitrary: fc.constant("") },
    { weight: 3, arbitrary: fc.array(pair, { minLength: 1, maxLength: 4 }).map((pairs) => `?${pairs.join("&")}`) },
    { weight: 1, arbitrary: hostileText.map((text) => `?${raw(text)}`) },
  );
  const prefix = fc.constantFrom("/migration-guard", "/functions/v1/migration-guard", "");
  const suffix = fc.oneof(
    { weight: 20, arbitrary: fc.constant("") },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        "/",
        "//",
        "/..",
        "/../../v1/keys",
        "%2F",
        "%2F..%2Fkeys",
        "/%2e%2e",
        ";a=b",
        "%00",
        "%",
      ),
    },
  );
  return fc.tuple(prefix, values, suffix, query).map(([prefix, values, suffix, query]) => {
    const filled = inPath.reduce((text, { name }, index) => text.replace(`{${name}}`, () => values[index]!), path);
    return prefix + filled + suffix + query;
  });
}

type Body = { text: string | undefined; type: string | undefined };

/** Fields of the document with values that it may not have, and fields that it does not have. */
function jsonOf({ fields, isBody }: Operation, isWorking: boolean): fc.Arbitrary<string | undefined> {
  const value = fc.oneof(
    { weight: 4, arbitrary: hostileValue },
    {
      weight: 3,
      arbitrary: fc.constantFrom<unknown>(
        "v10",
        "v99",
        ["profiles"],
        "*",
        "migration_backup_v10",
        true,
        7,
        "0".repeat(64),
        "keep",
        "admin",
      ),
    },
  );
  const name = fc.constantFrom(...fields, ...fields, ...fields, "force", "__proto__", "constructor", "actor");
  const object = fc.array(fc.tuple(name, value), { maxLength: 5 })
    // Not by way of an object, where __proto__ would be no name. One that comes twice is for the parser to choose.
    .map((pairs) => `{${pairs.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`);
  return fc.oneof(
    { weight: 8, arbitrary: object },
    { weight: 2, arbitrary: hostileValue.map((value) => JSON.stringify(value)) },
    { weight: 1, arbitrary: brokenJson },
    { weight: 1, arbitrary: fc.constant(undefined) },
  ).map((text) => {
    if (!isWorking) return text;
    try {
      return isBody(JSON.parse(text!.replace(/^\ufeff/, ""))) ? '{"a":}' : text;
    } catch {
      return text || "{";
    }
  });
}

function bodyOf(operation: Operation, isWorking: boolean): fc.Arbitrary<Body> {
  const [takes] = operation.bodyTypes;
  if (takes === undefined) {
    return fc.oneof({ weight: 5, arbitrary: fc.constant({ text: undefined, type: undefined }) }, {
      weight: 1,
      arbitrary: fc.record({ text: hostileText, type: contentTypes }),
    });
  }
  const text = takes === "application/json" ? jsonOf(operation, isWorking) : hostileSql;
  const type = fc.oneof({ weight: 8, arbitrary: fc.constant(takes) }, {
    weight: 1,
    arbitrary: contentTypes,
  });
  return fc.record<Body>({ text, type });
}

/** A request that nobody should send, and that must do nothing; `who` is the name of a credential. */
export function hostileRequest(
  operations: Operation[],
  credentials: Record<string, Record<string, string>>,
  known: Known,
): fc.Arbitrary<Sent & { who: string }> {
  const who = fc.oneof(
    { weight: 6, arbitrary: fc.constant("admin") },
    { weight: 4, arbitrary: fc.constantFrom("operator", "viewer") },
    { weight: 1, arbitrary: fc.constantFrom(...Object.keys(credentials)) },
  );
  // The more was refused, the longer does the trail take to verify.
  const weighted = operations.flatMap((operation) =>
    Array<Operation>(operation.path === "/v1/audit/verify" ? 1 : 10).fill(operation)
  );
  return fc.constantFrom(...weighted).chain((operation) => {
    const isWorking = working.test(`${operation.method} ${operation.path}`);
    const method = fc.oneof(
      { weight: 30, arbitrary: fc.constant(operation.method) },
      { weight: 1, arbitrary: fc.constantFrom("GET", "HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND") },
    );
    const headers = fc.oneof({ weight: 2, arbitrary: fc.constant({}) }, { weight: 1, arbitrary: oddHeaders });
    return fc.tuple(who, method, pathOf(operation, known), bodyOf(operation, isWorking), headers).map(
      ([who, method, path, { text, type }, odd]) => {
        const headers: Record<string, string> = { ...odd, ...credentials[who] };
        if (type !== undefined) headers["content-type"] = type;
        // Nobody is to wait for what comes of a request that does nothing, and a body is sent with whatever method.
        const body = text === undefined ? undefined : Buffer.from(text);
        if (body) headers["content-length"] = String(body.byteLength);
        return { who, method, path, headers, body };
      },
    );
  });
}
