import { readFileSync } from "node:fs";

export type ProcessUsage = {
  /** Milliseconds of CPU that all threads have used since the process began, in steps of 10. */
  cpu: number;
  /** Megabytes (2^20 bytes) in memory now, the program's own file included. */
  memory: number;
  /** The most that ever were. */
  peak: number;
};

/** Clock ticks in a second, as the kernel counts them for programs on every architecture that Deno runs on. */
const ticks = 100;

/** What a process has used, as Linux knows it. */
export function processUsage(pid: number): ProcessUsage {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const megabytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)![1]) / 1024;
  // The name of the program comes second, in parentheses, and may have anything in it.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ");
  const [utime, stime] = fields.slice(11, 13).map(Number);
  return { cpu: (utime! + stime!) * 1000 / ticks, memory: megabytes("VmRSS"), peak: megabytes("VmHWM") };
}
