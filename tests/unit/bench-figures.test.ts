import { expect, test } from "vitest";
import { type Figure, growths, percentile, ratios } from "../../bench/figures.ts";
import { judgeAtLeast, judgeAtMost } from "../../bench/judged.ts";
import { locksAreMet, report } from "../../bench/report.ts";

/** Figures of one size, a round each. */
const rounds = (name: string, values: number[], rows = 1000, postgres = "17"): Figure[] =>
  values.map((value, round) => ({ postgres, rows, round, name, value }));

test("a ratio is of the medians, with the least and the most of the rounds", () => {
  const figures = [...rounds("backup", [100, 900, 120]), ...rounds("create table as", [100, 300, 90])];
  expect(ratios(figures)).toEqual([
    expect.objectContaining({ value: 120, peerValue: 100, ratio: 1.2, spread: [1, 3], isMet: true }),
  ]);
  const [missed] = ratios([...rounds("backup", [126]), ...rounds("create table as", [100])]);
  expect(missed!.isMet).toBe(false);
});

test("figures of one Postgres or size are not compared with those of another", () => {
  const backup = rounds("backup", [100]);
  expect(ratios([...backup, ...rounds("pg_dump -Fc", [1000], 1000, "15")])).toEqual([]);
  expect(ratios([...backup, ...rounds("pg_dump -Fc", [1000], 2000)])).toEqual([]);
  expect(ratios([...backup, ...rounds("pg_dump -Fc", [1000])])).toHaveLength(1);
});

test("what is compared without a target cannot miss it", () => {
  const figures = [...rounds("diff, unchanged, exact", [1e6]), ...rounds("count both sides", [1])];
  expect(ratios(figures)).toEqual([expect.objectContaining({ ratio: 1e6, isMet: true })]);
});

test("the exponent tells how a job's time grows with the rows", () => {
  const sizes = [1000, 10_000, 80_000];
  const growing = (power: number) => sizes.flatMap((rows) => rounds("verify", [rows ** power, rows ** power], rows));
  const [linear] = growths(growing(1), "17");
  expect(linear).toMatchObject({ name: "verify", exponent: expect.closeTo(1), isMet: true });
  const [faster] = growths(growing(1.1), "17");
  expect(faster).toMatchObject({ exponent: expect.closeTo(1.1), isMet: false });
  expect(growths(growing(1).slice(0, 2), "17")).toEqual([]);
});

test("a percentile is a value that was measured", () => {
  const values = Array.from({ length: 200 }, (_, index) => 200 - index);
  expect(percentile(values, 0.99)).toBe(198);
  expect(percentile([7], 0.99)).toBe(7);
});

test("locks are met when some were seen, and none but those of readers", () => {
  expect(locksAreMet({ samples: 3, strongest: "AccessShareLock" })).toBe(true);
  expect(locksAreMet({ samples: 3, strongest: "ShareLock" })).toBe(false);
  expect(locksAreMet({ samples: 0, strongest: undefined })).toBe(false);
});

test("the table says what is missed", () => {
  const compared = ratios([...rounds("verify", [9000]), ...rounds("count the copies", [1000])]);
  const table = report({ ratios: compared, growths: [], locks: { samples: 1, strongest: "ShareLock" } });
  expect(table.match(/MISSED/g)).toHaveLength(2);
  expect(table).toMatch(/\| verify .* 9\.00 s .* 1\.00 s .* 9\.00 .* ≤ 8 /);
});

test("what has a target is judged as a part of it, whether it may be so much at most or at least", () => {
  expect(judgeAtMost("backup", 2, 3, [2, 5])).toEqual({ what: "backup", part: 1.5, spread: [1, 2.5] });
  expect(judgeAtLeast("requests", 3, 6, [4, 12])).toEqual({ what: "requests", part: 0.5, spread: [0.25, 0.75] });
  expect(judgeAtMost("exponent", 2, 1)).toEqual({ what: "exponent", part: 0.5, spread: [0.5, 0.5] });
});
