const lineEnd = 10;

/** Rows in a part of a `copy`'s text: each ends with a line end, and has no other, since those of values are escaped. */
export function countRows(text: Uint8Array): number {
  let rows = 0;
  for (let at = text.indexOf(lineEnd); at !== -1; at = text.indexOf(lineEnd, at + 1)) rows++;
  return rows;
}
