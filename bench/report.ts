import { type Growth, isBytes, type Ratio } from "./figures.ts";
import { markdownTable } from "./markdown-table.ts";
import type { SeenLocks } from "./watch-locks.ts";

/** Rows as one says them: 200 k, 8 M. */
export function shortCount(rows: number): string {
  const [number, unit] = rows >= 1e6 ? [rows / 1e6, " M"] : rows >= 1e3 ? [rows / 1e3, " k"] : [rows, ""];
  return `${Number(number.toPrecision(3))}${unit}`;
}

/** A figure with its unit. */
export function shortFigure(name: string, value: number): string {
  if (isBytes(name)) return `${(value / 2 ** 20).toFixed(0)} MB`;
  const [number, unit] = value < 1000 ? [value, "ms"] : [value / 1000, "s"];
  return `${number.toFixed(number < 10 ? 2 : number < 100 ? 1 : 0)} ${unit}`;
}

/** What is small is better read as a fraction. */
const isSmall = (ratio: number) => ratio < 0.4;
const fraction = (ratio: number) => `1/${Number((1 / ratio).toPrecision(3))}`;
const shortRatio = (ratio: number) => isSmall(ratio) ? fraction(ratio) : ratio.toFixed(2);

/** A target. */
export const atMost = (target: number) => `≤ ${isSmall(target) ? fraction(target) : target}`;

/** What is held on a protected table: nothing that keeps anybody from writing, and something, or nobody has looked. */
export const locksAreMet = ({ strongest }: SeenLocks) => strongest === "AccessShareLock";

/** The table of a run, in Markdown. */
export function report({ ratios, growths, locks }: { ratios: Ratio[]; growths: Growth[]; locks: SeenLocks }): string {
  const verdict = (isMet: boolean, target?: number) => target === undefined ? "" : isMet ? "met" : "MISSED";
  const cells = [
    ["what", "beside", "Postgres", "rows", "it", "the other", "ratio", "in the rounds", "target", ""],
    ...ratios.map((r) => [
      ...[r.name, r.peer, r.postgres, shortCount(r.rows), shortFigure(r.name, r.value)],
      ...[shortFigure(r.peer, r.peerValue), shortRatio(r.ratio), r.spread.map(shortRatio).join(" .. ")],
      ...[r.target === undefined ? "" : atMost(r.target), verdict(r.isMet, r.target)],
    ]),
    ...growths.map(({ name, exponent, target, isMet }) => [
      ...[name, "the number of rows: exponent", "", "", "", "", exponent.toFixed(2), ""],
      ...[atMost(target), verdict(isMet, target)],
    ]),
    [
      ...[
        "strongest lock on a live table",
        "",
        "",
        "",
        "",
        "",
        locks.strongest ?? "none seen",
        `${locks.samples} looks`,
      ],
      ...["AccessShareLock", verdict(locksAreMet(locks), 0)],
    ],
  ];
  return markdownTable(cells);
}
