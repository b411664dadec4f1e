import { Problem } from "../problems.ts";

/** How much of a parser's message is told: it quotes the file, and a string in it may be long, or secret. */
const longestMessage = 100;

/** The answer to a file that is not SQL; `line` is null where the parser did not get so far as to know it. */
export function invalidMigration(line: number | null, message: string): Problem {
  // A string is none of the words that would help, and may be a secret.
  const named = message.replace(/ at or near "([ebxn]|u&)?['$].*$/is, "");
  const short = named.length > longestMessage ? `${named.slice(0, longestMessage)}…` : named;
  const hint = message.includes('near "\\"')
    ? " Commands that begin with a backslash are psql's own: send the file without them."
    : "";
  return new Problem("invalid_migration", {
    detail: `${line === null ? "The file" : `Line ${line}`}: ${short}.${hint}`,
    errors: [{ line, message: short }],
  });
}
