/** What was measured once: milliseconds, or bytes. */
export type Figure = { postgres: string; rows: number; round: number; name: string; value: number };

/** A job's figure beside that of a peer, and how many times the peer's it may be. Without a target it is shown alone. */
export type Comparison = { name: string; peer: string; target?: number };

export type Ratio = Comparison & {
  postgres: string;
  rows: number;
  /** Medians over the rounds. */
  value: number;
  peerValue: number;
  ratio: number;
  /** The least and the most that it was in one round. */
  spread: [least: number, most: number];
  isMet: boolean;
};

export const comparisons: Comparison[] = [
  { name: "backup", peer: "create table as", target: 1.25 },
  { name: "backup", peer: "pg_dump -Fc", target: 1 / 6 },
  { name: "backup", peer: "pg_dump -Fd -j2 -Z0", target: 1.05 },
  { name: "verify", peer: "count the copies", target: 8 },
  { name: "diff, unchanged", peer: "count both sides", target: 2 },
  { name: "diff, unchanged, exact", peer: "count both sides" },
  { name: "diff, 1 % changed", peer: "count both, 1 % changed", target: 4 },
  { name: "diff, 1 % changed", peer: "except all, both ways", target: 1 / 5 },
  { name: "diff, 1 % changed, exact", peer: "count both, 1 % changed" },
  { name: "writers' p99, backup runs", peer: "writers' p99, idle", target: 2 },
  { name: "writers' longest, backup runs", peer: "writers' longest, idle" },
  { name: "size of the backup", peer: "size of the live tables", target: 1.05 },
];

/** Jobs whose time shall grow as the rows do, and the exponent that it may have at most. */
export const growing = { names: ["backup", "verify", "diff, unchanged", "diff, 1 % changed"], target: 1.05 };

export const isBytes = (name: string) => name.startsWith("size ");

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle) - 1]!) / 2;
}

/** The value that a share of the others does not exceed. */
export function percentile(values: number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1]!;
}

/** Every comparison of which both sides were measured, at each number of rows. */
export function ratios(figures: Figure[]): Ratio[] {
  return comparisons.flatMap((comparison) =>
    groups(figures).flatMap(({ postgres, rows, of }) => {
      const [values, peers] = [of(comparison.name), of(comparison.peer)];
      const rounds = [...values.keys()].filter((round) => peers.has(round));
      if (rounds.length === 0) return [];
      const [value, peerValue] = [values, peers].map((side) => median(rounds.map((round) => side.get(round)!)));
      const each = rounds.map((round) => values.get(round)! / peers.get(round)!);
      const ratio = value! / peerValue!;
      return [{
        ...comparison,
        ...{ postgres, rows, value: value!, peerValue: peerValue!, ratio },
        spread: [Math.min(...each), Math.max(...each)] as [number, number],
        isMet: ratio <= (comparison.target ?? Infinity),
      }];
    })
  );
}

/** The figures of one Postgres and number of rows: each name's, by round. */
function groups(figures: Figure[]) {
  const byGroup = Map.groupBy(figures, ({ postgres, rows }) => `${postgres} ${rows}`);
  return [...byGroup.values()].map((group) => ({
    postgres: group[0]!.postgres,
    rows: group[0]!.rows,
    of: (name: string) => new Map(group.filter((f) => f.name === name).map(({ round, value }) => [round, value])),
  }));
}

/** Medians by number of rows, the fewest first. */
export function line(figures: Figure[], postgres: string, name: string): [rows: number, value: number][] {
  const own = figures.filter((figure) => figure.postgres === postgres && figure.name === name);
  return [...Map.groupBy(own, ({ rows }) => rows)]
    .map(([rows, each]): [number, number] => [rows, median(each.map(({ value }) => value))])
    .sort(([a], [b]) => a - b);
}

export type Growth = { name: string; exponent: number; target: number; isMet: boolean };

/** How the time of each job grows with the rows: the slope of its line where both are logarithms, by least squares. */
export function growths(figures: Figure[], postgres: string): Growth[] {
  const { names, target } = growing;
  return names.flatMap((name) => {
    const points = line(figures, postgres, name);
    if (points.length < 2) return [];
    const exponent = fittedExponent(points);
    return [{ name, exponent, target, isMet: exponent <= target }];
  });
}

/** The slope of the line that fits the logarithms of both best, by least squares. */
export function fittedExponent(points: [size: number, value: number][]): number {
  const logs = points.map(([size, value]) => [Math.log(size), Math.log(value)] as const);
  const mean = (of: 0 | 1) => logs.reduce((sum, point) => sum + point[of], 0) / logs.length;
  const [x, y] = [mean(0), mean(1)];
  return logs.reduce((sum, [a, b]) => sum + (a - x) * (b - y), 0) / logs.reduce((sum, [a]) => sum + (a - x) ** 2, 0);
}
