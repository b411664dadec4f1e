import { textColumns } from "./text-columns.ts";

/** Text of exactly so many columns of a terminal: longer text is cut and ends in `…`, shorter text is filled with spaces. */
export function fitColumns(text: string, columns: number): string {
  const missing = columns - textColumns(text);
  if (missing >= 0) return text + " ".repeat(missing);
  let kept = "";
  let width = 0;
  for (const letter of text) {
    width += textColumns(letter);
    if (width >= columns) break;
    kept += letter;
  }
  return fitColumns(`${kept}…`, columns);
}
