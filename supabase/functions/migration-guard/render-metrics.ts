import { metrics } from "./metrics.ts";

/** One figure: the name of its line, its labels, its value. */
export type Sample = { metric: string; labels: Record<string, string>; value: number };

/**
 * Writes figures in the text format of Prometheus. They are whole already, so that they go in as those of another process
 * would: by `aggregate`, into a registry that holds nothing else.
 *
 * @throws When a figure is of no metric that is described.
 */
export async function renderMetrics(samples: Sample[]): Promise<{ text: string; contentType: string }> {
  // Its start takes longer than that of everything else here, and no other request needs it.
  const { AggregatorRegistry } = await import("prom-client");
  const described = Object.entries(metrics).map(([name, { type, help }]) => ({
    name,
    type,
    help,
    aggregator: "first",
    values: samples.filter(({ metric }) => nameOf(metric) === name)
      .map(({ metric, labels, value }) => ({ metricName: metric, labels, value })),
  }));
  const registry = AggregatorRegistry.aggregate([described]);
  return { text: await registry.metrics(), contentType: registry.contentType };
}

/** The metric that a line belongs to: a histogram has lines of three names. */
function nameOf(line: string): string {
  const name = line.replace(/(?<=_seconds)_(bucket|sum|count)$/, "");
  if (!(name in metrics)) throw new Error(`${line} belongs to no metric that is described.`);
  return name;
}
