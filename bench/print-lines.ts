/** One figure of a benchmark, and what it should be. */
export type Line = { what: string; figure: string; target?: string; isMet?: boolean };

/** Writes figures as a table of Markdown. */
export function printLines(lines: Line[]): void {
  const cells = [
    ["what", "figure", "target", ""],
    ["---", "---", "---", "---"],
    ...lines.map(({ what, figure, target, isMet }) => [
      what,
      figure,
      target ?? "",
      isMet === undefined ? "" : isMet ? "met" : "MISSED",
    ]),
  ];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column]!.length)));
  for (const row of cells) console.log(`| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`);
}
