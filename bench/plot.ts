import { Resvg } from "@resvg/resvg-js";
import { init } from "echarts";
import { type Figure, isBytes, line, type Ratio } from "./figures.ts";
import { shortCount, shortRatio } from "./report.ts";

/** What is drawn beside each job: its line first. */
const panels = [
  { title: "Backup", names: ["backup", "create table as"], dumps: ["pg_dump -Fd -j2 -Z0", "pg_dump -Fc"] },
  { title: "Verify", names: ["verify", "count the copies"], dumps: [] },
  {
    title: "Diff, nothing changed",
    names: ["diff, unchanged", "diff, unchanged, exact", "count both sides"],
    dumps: [],
  },
  {
    title: "Diff, 1 % changed",
    names: ["diff, 1 % changed", "diff, 1 % changed, exact", "count both, 1 % changed", "except all, both ways"],
    dumps: [],
  },
];
const colors = { job: "#0b7a5b", peers: ["#6b7280", "#b45309", "#4f46e5"], missed: "#c0262d", ink: "#1f2937" };
const font = "DejaVu Sans, Verdana, sans-serif";
const width = 1240;
const panel = { top: 96, height: 250, left: 62, width: 236, gap: 62 };
const rowHeight = 16;

/** Draws the lines of the jobs and their peers over the rows, and below each ratio beside its target. */
export function drawPlot({ figures, ratios, postgres, sizes }: {
  figures: Figure[];
  ratios: Ratio[];
  postgres: string;
  sizes: number[];
}): { svg: string; png: Uint8Array } {
  const judged = ratios.filter(({ target }) => target !== undefined);
  const below = panel.top + panel.height + 170;
  const height = below + judged.length * rowHeight + 80;
  const chart = init(null, null, { renderer: "svg", ssr: true, width, height });
  const lines = panels.map((each, index) => linePanel({ ...each, index, figures, postgres, sizes }));
  const targets = targetPanel(judged, below, lines.length);
  const all = [...lines, targets];
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    textStyle: { fontFamily: font, color: colors.ink },
    title: all.flatMap(({ titles }) => titles),
    grid: all.map(({ grid }) => grid),
    xAxis: all.map(({ xAxis }) => xAxis),
    yAxis: all.map(({ yAxis }) => yAxis),
    legend: lines.flatMap(({ legend }) => legend),
    series: all.flatMap(({ series }) => series),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  const picture = new Resvg(svg, { fitTo: { mode: "width", value: 2 * width }, font: { loadSystemFonts: true } });
  return { svg, png: picture.render().asPng() };
}

const title = (text: string, left: number, top: number, size = 14) => ({
  text,
  left,
  top,
  padding: 0,
  textStyle: { fontFamily: font, fontSize: size, fontWeight: "bold" as const, color: colors.ink },
});

function linePanel({ title: heading, names, dumps, index, figures, postgres, sizes }: {
  title: string;
  names: string[];
  dumps: string[];
  index: number;
  figures: Figure[];
  postgres: string;
  sizes: number[];
}) {
  const left = panel.left + index * (panel.width + panel.gap);
  // A dump may have been taken of another Postgres.
  const drawn = [
    ...names.map((name) => ({ label: name, name, of: postgres })),
    ...dumps.flatMap((name) => {
      const of = figures.find((figure) => figure.name === name)?.postgres;
      return of === undefined ? [] : [{ label: of === postgres ? name : `${name} (Postgres ${of})`, name, of }];
    }),
  ].map((each) => ({ ...each, points: line(figures, each.of, each.name).map(([rows, ms]) => [rows, ms / 1000]) }))
    .filter(({ points }) => points.length > 0);
  const times = drawn.flatMap(({ points }) => points.map(([, seconds]) => seconds!));
  return {
    titles: [title(heading, left, 62)],
    grid: { left, top: panel.top, width: panel.width, height: panel.height, containLabel: false },
    xAxis: {
      type: "log" as const,
      gridIndex: index,
      min: sizes[0]! / 1.3,
      max: sizes.at(-1)! * 1.3,
      name: "rows",
      nameLocation: "middle" as const,
      nameGap: 26,
      axisLabel: { customValues: sizes, formatter: (rows: number) => shortCount(rows) },
      axisTick: { customValues: sizes },
      splitLine: { show: false },
    },
    yAxis: {
      type: "log" as const,
      gridIndex: index,
      name: "seconds",
      nameGap: 10,
      nameTextStyle: { align: "right" as const },
      min: 10 ** Math.floor(Math.log10(Math.min(...times, 1))),
      max: 10 ** Math.ceil(Math.log10(Math.max(...times, 1))),
      axisLabel: { formatter: (seconds: number) => String(Number(seconds.toPrecision(1))) },
    },
    legend: [{
      data: drawn.map(({ label }) => `${label}${"\u200b".repeat(index)}`),
      orient: "vertical" as const,
      left: left - 8,
      top: panel.top + panel.height + 44,
      itemWidth: 22,
      itemGap: 4,
      selectedMode: false,
      textStyle: { fontFamily: font, fontSize: 11, color: colors.ink },
    }],
    series: drawn.map(({ label, name, points }) => {
      const isJob = /^(backup|verify|diff)/.test(name);
      const color = isJob ? colors.job : colors.peers[
        drawn.filter((d) => d.name === name || !/^(backup|verify|diff)/.test(d.name)).findIndex((d) =>
          d.name === name
        ) % 3
      ]!;
      return {
        type: "line" as const,
        name: `${label}${"\u200b".repeat(index)}`,
        xAxisIndex: index,
        yAxisIndex: index,
        data: points,
        symbol: isJob ? "circle" : "emptyCircle",
        symbolSize: 7,
        color,
        lineStyle: {
          color,
          width: isJob ? 2.5 : 1.5,
          type: name.endsWith("exact") ? "dashed" as const : "solid" as const,
        },
      };
    }),
  };
}

/** Each ratio as a part of its target, with the spread of the rounds. Left of the line at 1 a target is met. */
function targetPanel(judged: Ratio[], top: number, index: number) {
  const left = 400;
  const label = (r: Ratio) =>
    `${r.name} / ${r.peer}, ${shortCount(r.rows)}${isBytes(r.name) ? "" : ""}   ≤ ${shortRatio(r.target!)}`;
  const height = judged.length * rowHeight;
  return {
    titles: [title("Ratios as parts of their targets", panel.left, top - 34)],
    grid: { left, top, width: width - left - 110, height },
    xAxis: {},
    yAxis: {},
    series: [],
  };
}
