import { readFileSync } from "node:fs";

/** A figure that has a target, as a part of it: with 1 and less the target is met. */
export type Judged = {
  /** With the target. */
  what: string;
  /** Where the same is measured at several numbers of rows. */
  rows?: number;
  part: number;
  /** The least and the most that it was in one round. */
  spread: [least: number, most: number];
};

/** What was measured in several rounds and may be so much at most. */
export function judgeAtMost(what: string, target: number, figure: number, rounds: number[] = [figure]): Judged {
  return { what, part: figure / target, spread: [Math.min(...rounds) / target, Math.max(...rounds) / target] };
}

/** What was measured in several rounds and may be so much at least. */
export function judgeAtLeast(what: string, target: number, figure: number, rounds: number[] = [figure]): Judged {
  return { what, part: target / figure, spread: [target / Math.max(...rounds), target / Math.min(...rounds)] };
}

/** What one of the benches has judged, from the file that its `--json` names. */
export function readJudged(json: string): Judged[] {
  return (JSON.parse(readFileSync(json, "utf8")) as { judged: Judged[] }).judged;
}
