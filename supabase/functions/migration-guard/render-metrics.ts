import { metrics } from "./metrics.ts";

/** One figure: the name of its line, its labels, its value. */
export type Sample = { metric: string; labels: Record<string, string>; value: number };

/**
 * Writes figures in the text format of Prometheus.
 *
 * @throws When a figure is of no metric that is described.
 */
export function renderMetrics(samples: Sample[]): { text: string; contentType: string } {
  const linesOf = Map.groupBy(samples, ({ metric }) => nameOf(metric));
  const text = Object.entries(metrics).flatMap(([name, { type, help }]) => [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${type}`,
    ...(linesOf.get(name) ?? []).map(lineOf),
  ]);
  return { text: `${text.join("\n")}\n`, contentType: "text/plain; version=0.0.4; charset=utf-8" };
}

function lineOf({ metric, labels, value }: Sample): string {
  const written = Object.entries(labels).map(([label, text]) => `${label}="${escape(text)}"`);
  return `${metric}${written.length > 0 ? `{${written.join(",")}}` : ""} ${value}`;
}

const escape = (text: string) => text.replace(/[\\"\n]/g, (character) => character === "\n" ? "\\n" : `\\${character}`);

/** The metric that a line belongs to: a histogram has lines of three names. */
function nameOf(line: string): string {
  const name = line.replace(/(?<=_seconds)_(bucket|sum|count)$/, "");
  if (!(name in metrics)) throw new Error(`${line} belongs to no metric that is described.`);
  return name;
}
