import { z } from "@hono/zod-openapi";
import { RollbackOptions } from "./rollback-options.ts";
import { Pretty } from "./schemas.ts";

const { data, drop_new } = RollbackOptions.shape;

/** Reads a parameter into what its schema takes; an error that the reader throws, or the schema finds, is the parameter's. */
const readAs = <Schema extends z.ZodType>(schema: Schema, read: (text: string) => unknown, form: string) =>
  z.string().transform((text, context): z.output<Schema> => {
    let value: unknown;
    try {
      value = read(text);
    } catch {
      value = undefined;
    }
    const parsed = value === undefined ? undefined : schema.safeParse(value);
    if (parsed?.success) return parsed.data;
    context.addIssue({ code: "custom", message: form });
    return z.NEVER;
  });

/** `profiles:restore,invite_codes:keep`; nothing where an entry has no name, or one that came before. */
function readModes(text: string): Record<string, string> | undefined {
  const entries = text.split(",").map((entry) => {
    const colon = entry.lastIndexOf(":");
    return [entry.slice(0, Math.max(colon, 0)).trim(), entry.slice(colon + 1).trim()] as const;
  });
  const isDoubled = new Set(entries.map(([name]) => name)).size < entries.length;
  return isDoubled ? undefined : Object.fromEntries(entries);
}

const readData = (text: string) =>
  text.startsWith("{") ? JSON.parse(text) : ["keep", "restore"].includes(text) ? text : readModes(text);

const readDropNew = (text: string) =>
  text.startsWith("[")
    ? JSON.parse(text)
    : ["all", "blocking"].includes(text)
    ? text
    : text.split(",").map((name) => name.trim());

/** The query of a rollback plan: its options, as they are written in an address. */
export const RollbackQuery = z.strictObject({
  data: readAs(
    data,
    readData,
    "is keep, restore, table:mode with commas between (profiles:restore,invite_codes:keep), or a JSON object of that",
  ).optional().openapi({
    type: "string",
    description:
      "`keep` (as when it is left out), `restore`, or one of them for single tables: `profiles:restore,invite_codes:keep`, or as a JSON object.",
    example: "profiles:restore",
  }),
  drop_new: readAs(
    drop_new,
    readDropNew,
    "is all, blocking, names of tables with commas between, or a JSON array of names",
  ).optional().openapi({
    type: "string",
    description: "`all`, `blocking`, or the new tables to drop, with commas between or as a JSON array.",
    example: "archived_profiles",
  }),
  leave_deleted: z.enum(["true", "false"]).transform((text) => text === "true").optional().openapi({
    type: "string",
    enum: ["true", "false"],
    description: "With `restore`: rows that were deleted since the backup stay deleted.",
  }),
  pretty: Pretty,
}).transform(({ pretty: _, ...options }) => RollbackOptions.parse(options));
