import { expect, test } from "vitest";
import { longestWait, waitSeconds } from "../../supabase/functions/migration-guard/prefer.ts";

test.for(
  [
    [undefined, 0],
    ["", 0],
    ["respond-async", 0],
    ["wait=10", 10],
    ["respond-async, wait=10", 10],
    ["WAIT = 7", 7],
    ['wait="7"', 7],
    ["wait=5; foo", 5],
    ["wait=0", 0],
    ["wait=-1", 0],
    ["wait=1.5", 0],
    ["wait=ten", 0],
    ["await=10", 0],
    ["wait=121", longestWait],
    ["wait=999999999", longestWait],
  ] as const,
)("Prefer: %s waits %i seconds", ([header, seconds]) => {
  expect(waitSeconds(header)).toBe(seconds);
});
