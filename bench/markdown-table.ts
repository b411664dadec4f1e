/** Rows of cells as a table of Markdown; the first row is its head. */
export function markdownTable([head, ...rows]: string[][]): string {
  const cells = [head!, head!.map(() => "---"), ...rows];
  const widths = head!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  return cells.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`).join("\n");
}
