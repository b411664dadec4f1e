/** What a script says of a rollback plan. */
type Plan = {
  version: string;
  plan_hash: string;
  possible: boolean;
  statements: {
    step: number;
    object: string;
    reason: string;
    statement: string;
    effect: string;
    lock: string | null;
    on: string | null;
    estimated_rows: number | null;
  }[];
  cannot_undo: { object: string; why: string; blocks: boolean }[];
};

/** What the statements, and the texts that they compare, are written for. */
const settings = [
  "search_path = pg_catalog, pg_temp",
  "client_encoding = 'UTF8'",
  "standard_conforming_strings = on",
  "quote_all_identifiers = off",
  "check_function_bodies = off",
  "row_security = off",
  "timezone = 'UTC'",
  "datestyle = 'ISO, YMD'",
  "intervalstyle = 'postgres'",
  "extra_float_digits = 1",
  "bytea_output = 'hex'",
  "lc_monetary = 'C'",
  "lock_timeout = '10s'",
];

/** Each line as a comment: what Postgres or psql ends a line with ends the comment, and names may have it. */
const comment = (text: string) => text.split(/\r\n|\r|\n/).map((line) => `-- ${line}`.trimEnd()).join("\n");

const oneLine = (text: string) => text.replace(/\s*[\r\n]+\s*/g, " ");

function statementText(
  { step, object, reason, statement, effect, lock, on, estimated_rows }: Plan["statements"][number],
) {
  const isUnknown = estimated_rows === null && ["scan", "rewrite", "rows"].includes(effect);
  const rows = isUnknown ? "number of rows unknown" : estimated_rows && `about ${estimated_rows} rows`;
  const costs = [effect, lock && `${lock}${on ? ` on ${on}` : ""}`, rows];
  const title = oneLine(`${step}. ${object}: ${reason} (${costs.filter(Boolean).join(", ")})`);
  return `${comment(title)}\n${statement.trimEnd().replace(/;$/, "")};`;
}

/**
 * A rollback plan as a script of SQL that psql runs: one transaction, with the settings that its statements are written
 * for. Unlike the API's own run it does not compare the catalog at the end, and the rows only where its statements do. A plan
 * that is refused is all comments.
 */
export function rollbackScript({ version, plan_hash, possible, statements, cannot_undo }: Plan): string {
  const blocks = [
    `The way back from ${version}, plan ${plan_hash}.`,
    "As a script it neither checks the backup first nor compares the catalog at the end: POST /v1/backups/{version}/rollback does.",
    ...cannot_undo.map(({ object, why, blocks }) =>
      `${blocks ? "Bars the way" : "Cannot be undone"}: ${oneLine(`${object}: ${why}`)}`
    ),
    ...(possible ? [] : ["This plan is refused, so that its statements are comments here."]),
  ];
  const script = [
    "begin isolation level read committed;",
    settings.map((setting) => `set local ${setting};`).join("\n"),
    ...statements.map(statementText),
    "notify pgrst, 'reload schema';\ncommit;",
  ].join("\n\n");
  return `${comment(blocks.join("\n"))}\n\n${possible ? script : comment(script)}\n`;
}
