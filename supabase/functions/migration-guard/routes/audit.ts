import { createRoute, z } from "@hono/zod-openapi";
import type { App } from "../app.ts";
import { Role } from "../roles.ts";
import { rpc } from "../rpc.ts";
import { jsonContent, NullableTimestamp, Pretty, problemResponses, Text, Timestamp, Version } from "../schemas.ts";

const Hash = z.string().regex(/^[0-9a-f]{64}$/, "is 64 hexadecimal digits");

const Entry = z.object({
  id: z.int(),
  at: Timestamp,
  actor: z.string().nullable().openapi({ description: "Name of the key; null where none was accepted." }),
  role: z.union([Role, z.null()]).openapi({
    description: "What the key was then; null for what no request asked for.",
  }),
  db_user: z.string().openapi({ description: "Whom Postgres itself had let in." }),
  request_id: z.string().nullable(),
  source: z.string().nullable().openapi({
    description:
      "The first address of `x-forwarded-for`: the client's, or whatever the client said where a gateway appends to what it is sent.",
  }),
  version: z.string().nullable(),
  job_id: z.uuid().nullable(),
  action: z.string().openapi({
    description: "What was asked for, or `job.<kind>` for what became of a job.",
    example: "cleanup",
  }),
  outcome: z.string().openapi({
    description: "`done` or `refused`; for a job the status that it got.",
  }),
  parameters: z.record(z.string(), z.unknown()),
  number: z.int().nullable().openapi({ description: "Place in the chain; null for an entry that waits for it." }),
  hash: z.string().nullable().openapi({ description: "SHA-256 over the hash of the one before and this entry." }),
}).openapi("AuditEntry");

/** Postgres has no year 0, no zone of 16 hours, and does not read on for ever. */
const instant = z.iso.datetime({ offset: true })
  .refine((text) => /^(?!0000|.*[+-](1[6-9]|2.):).{1,40}$/.test(text), "is no time that Postgres has");

const query = z.strictObject({
  limit: z.coerce.number().int().min(1).max(200).default(50).openapi({ description: "How many at most." }),
  cursor: z.string().regex(/^[1-9][0-9]{0,17}$/, "is the next_cursor of an earlier answer").optional().openapi({
    description: "`next_cursor` of the answer before.",
  }),
  version: Version.optional(),
  actor: Text.max(200).optional(),
  action: Text.max(100).optional(),
  outcome: Text.max(100).optional(),
  since: instant.optional().openapi({ description: "Not before this time.", example: "2026-01-01T00:00:00Z" }),
  until: instant.optional().openapi({ description: "Before this time.", example: "2026-02-01T00:00:00Z" }),
  pretty: Pretty,
});

const tags = ["audit"];

const listAudit = createRoute({
  method: "get",
  path: "/v1/audit",
  "x-required-role": "admin",
  tags,
  summary: "Who has asked for what, and what became of it, newest first.",
  request: { query },
  responses: {
    200: jsonContent(
      z.object({
        entries: z.array(Entry),
        next_cursor: z.string().nullable().openapi({ description: "Null where there are no earlier ones." }),
      }),
      "The entries.",
    ),
    ...problemResponses(),
  },
});

const pendingState = {
  pending: z.int().openapi({ description: "Entries that wait for the chain." }),
  oldest_pending_at: NullableTimestamp.openapi({
    description: "Since when the oldest of them does: more than some minutes are a reason to look.",
  }),
};

const verifyAudit = createRoute({
  method: "get",
  path: "/v1/audit/verify",
  "x-required-role": "admin",
  tags,
  summary: "Reckon the chain of hashes again, part by part, and name the first entry that is not as it was.",
  request: {
    query: z.strictObject({
      expected_hash: Hash.optional().openapi({
        description: "A `hash` that was kept elsewhere: the chain must have it, or its end was cut off.",
      }),
      from_number: z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER).default(1).openapi({
        description: "Where to begin: `next_number` of the answer before.",
      }),
      previous_hash: Hash.optional().openapi({
        description: "`last_hash` of the answer before: what must stand before `from_number`.",
      }),
      limit: z.coerce.number().int().min(1).max(200_000).default(100_000).openapi({ description: "How many at most." }),
      pretty: Pretty,
    }),
  },
  responses: {
    200: jsonContent(
      z.object({
        intact: z.boolean().openapi({ description: "Whether what this answer has reckoned is as it was." }),
        entries: z.int().openapi({ description: "How many it has reckoned." }),
        head: z.string().nullable().openapi({ description: "The newest hash." }),
        first_broken: z.object({
          number: z.int().nullable().openapi({ description: "Place in the chain; null for what is not in it." }),
          entry_id: z.int().nullable(),
          why: z.string(),
        }).nullable(),
        next_number: z.int().nullable().openapi({
          description: "Where the next part begins; null after the last one.",
        }),
        last_hash: z.string().nullable().openapi({ description: "The last hash of this part." }),
        ...pendingState,
      }).openapi("AuditVerification"),
      "Whether the trail, or this part of it, is as it was written.",
    ),
    ...problemResponses(),
  },
});

const getAuditHead = createRoute({
  method: "get",
  path: "/v1/audit/head",
  "x-required-role": "admin",
  tags,
  summary: "The newest hash of the chain: keep it outside of the database.",
  responses: {
    200: jsonContent(
      z.object({
        number: z.int().nullable(),
        hash: z.string().nullable(),
        at: NullableTimestamp,
        ...pendingState,
      }).openapi("AuditHead"),
      "The newest hash, its number, and the time of its entry, nulls before anything was recorded; and what waits for the chain.",
    ),
    ...problemResponses(),
  },
});

const Verification = z.tuple([verifyAudit.responses[200].content["application/json"].schema]);
const Head = z.tuple([getAuditHead.responses[200].content["application/json"].schema]);

/** Longest time that a look at the trail may take, in milliseconds; the database ends it at 25 s, a verification at 55 s. */
const listLimit = 26_000;
const verifyLimit = 56_000;

export function audit(app: App) {
  app.openapi(listAudit, async (c) => {
    const { limit, cursor, version, actor, action, outcome, since, until } = c.req.valid("query");
    const parameters = {
      ...{ actor: c.var.actor, max_entries: limit + 1, before: cursor === undefined ? undefined : Number(cursor) },
      ...{ of_version: version, of_actor: actor, of_action: action, of_outcome: outcome, since, until },
    };
    const found = await rpc(c.var.client, "list_audit", parameters, z.array(Entry), listLimit);
    const entries = found.slice(0, limit);
    return c.json({ entries, next_cursor: found.length > limit ? String(entries.at(-1)!.id) : null }, 200);
  });

  app.openapi(verifyAudit, async (c) => {
    const { expected_hash, from_number, previous_hash, limit } = c.req.valid("query");
    const parameters = { actor: c.var.actor, expected_hash, from_number, previous_hash, max_entries: limit };
    const [outcome] = await rpc(c.var.client, "verify_audit", parameters, Verification, verifyLimit);
    return c.json(outcome, 200);
  });

  app.openapi(getAuditHead, async (c) => {
    const [head] = await rpc(c.var.client, "get_audit_head", { actor: c.var.actor }, Head);
    return c.json(head, 200);
  });
}
