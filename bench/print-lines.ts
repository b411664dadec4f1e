import { markdownTable } from "./markdown-table.ts";

/** One figure of a benchmark, and what it should be. */
export type Line = { what: string; figure: string; target?: string; isMet?: boolean };

/** Writes figures as a table of Markdown. */
export function printLines(lines: Line[]): void {
  const rows = lines.map(({ what, figure, target, isMet }) => [
    what,
    figure,
    target ?? "",
    isMet === undefined ? "" : isMet ? "met" : "MISSED",
  ]);
  console.log(markdownTable([["what", "figure", "target", ""], ...rows]));
}
