import { Resvg } from "@resvg/resvg-js";
import { init } from "echarts";
import { type Figure, line } from "./figures.ts";
import type { Judged } from "./judged.ts";
import { shortCount } from "./report.ts";

/** Lines of a panel: the job's, what compares more, and what the peers take. */
type Panel = { title: string; jobs: string[]; peers: string[] };
const panels: Panel[] = [
  { title: "Backup", jobs: ["backup"], peers: ["create table as", "pg_dump -Fd -j2 -Z0", "pg_dump -Fc"] },
  { title: "Verify", jobs: ["verify"], peers: ["count the copies"] },
  { title: "Diff, nothing changed", jobs: ["diff, unchanged", "diff, unchanged, exact"], peers: ["count both sides"] },
  {
    title: "Diff, 1 % of the rows changed",
    jobs: ["diff, 1 % changed", "diff, 1 % changed, exact"],
    peers: ["count both, 1 % changed", "except all, both ways"],
  },
];

const ink = "#1f2937";
const faint = "#e5e7eb";
const colors = { job: "#0b7a5b", peers: ["#6b7280", "#4f46e5", "#b45309"], met: "#0b7a5b", missed: "#c0262d" };
/** Of the sizes, the fewest rows first. */
const symbols = ["circle", "diamond", "triangle", "rect", "pin", "arrow"];
const fontFamily = "DejaVu Sans, Verdana, sans-serif";

const width = 1280;
const margin = 64;
const panelWidth = 240;
const panelHeight = 250;
const panelTop = 82;
const rowHeight = 30;

/** Draws the time of each job and its peers over the rows, and below that each figure as a part of its target. */
export function drawPlot({ figures, judged, postgres, sizes }: {
  figures: Figure[];
  judged: Judged[];
  postgres: string;
  sizes: number[];
}): { svg: string; png: Uint8Array } {
  const drawn = panels.map((panel, index) => linePanel({ panel, index, figures, postgres, sizes }));
  const top = panelTop + panelHeight + 210;
  const targets = targetPanel({ judged, sizes, top, index: panels.length });
  const all = [...drawn, targets];
  const chart = init(null, null, { renderer: "svg", ssr: true, width, height: top + targets.grid.height + 64 });
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    textStyle: { fontFamily, color: ink },
    title: all.map(({ title }) => title),
    grid: all.map(({ grid }) => grid),
    xAxis: all.map(({ xAxis }) => xAxis),
    yAxis: all.map(({ yAxis }) => yAxis),
    legend: all.map(({ legend }) => legend),
    series: all.flatMap(({ series }): object[] => series),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  const png = new Resvg(svg, { fitTo: { mode: "width", value: 2 * width } }).render().asPng();
  return { svg, png };
}

const heading = (text: string, left: number, top: number) => ({
  ...{ text, left, top, padding: 0 },
  textStyle: { fontFamily, fontSize: 15, fontWeight: "bold", color: ink },
});

const legendText = { fontFamily, fontSize: 12, color: ink };

function linePanel({ panel, index, figures, postgres, sizes }: {
  panel: Panel;
  index: number;
  figures: Figure[];
  postgres: string;
  sizes: number[];
}) {
  const left = margin + index * (panelWidth + 62);
  const lines = [...panel.jobs, ...panel.peers].flatMap((name) => {
    // A peer that does not read this Postgres was measured on another.
    const own = line(figures, postgres, name);
    const other = figures.find((figure) => figure.name === name)?.postgres;
    if (other === undefined) return [];
    const points = own.length > 0 ? own : line(figures, other, name);
    const label = own.length > 0 ? name : `${name} (Postgres ${other})`;
    const isJob = panel.jobs.includes(name);
    const color = isJob ? colors.job : colors.peers[panel.peers.indexOf(name)];
    return [{
      ...{ type: "line", name: label, xAxisIndex: index, yAxisIndex: index, color },
      data: points.map(([rows, ms]) => [rows, ms / 1000]),
      symbol: isJob ? "circle" : "emptyCircle",
      symbolSize: 7,
      lineStyle: { color, width: isJob ? 2.5 : 1.5, type: name.endsWith("exact") ? "dashed" : "solid" },
    }];
  });
  const seconds = lines.flatMap(({ data }) => data.map(([, value]) => value!));
  return {
    title: heading(panel.title, left, panelTop - 58),
    grid: { left, top: panelTop, width: panelWidth, height: panelHeight },
    xAxis: {
      ...{ type: "log", gridIndex: index, min: sizes[0]! / 1.4, max: sizes.at(-1)! * 1.4 },
      ...{ name: "rows", nameLocation: "middle", nameGap: 28, nameTextStyle: { fontFamily } },
      axisLine: { lineStyle: { color: ink } },
      axisLabel: { customValues: sizes, formatter: shortCount, color: ink, fontFamily },
      axisTick: { customValues: sizes },
      splitLine: { show: false },
    },
    yAxis: {
      ...{ type: "log", gridIndex: index, name: "seconds", nameGap: 12 },
      nameTextStyle: { align: "left", padding: [0, 0, 0, -34], fontFamily },
      min: 10 ** Math.floor(Math.log10(Math.min(1, ...seconds))),
      max: 10 ** Math.ceil(Math.log10(Math.max(1, ...seconds))),
      axisLabel: { formatter: (value: number) => String(Number(value.toPrecision(1))), color: ink, fontFamily },
      splitLine: { lineStyle: { color: faint } },
    },
    legend: {
      data: lines.map(({ name }) => name),
      ...{ orient: "vertical", left: left - 6, top: panelTop + panelHeight + 44, itemWidth: 26, itemGap: 6 },
      textStyle: legendText,
    },
    series: lines,
  };
}

/** Each figure as a part of its target, and how far it went in the rounds: left of the line a target is met. */
function targetPanel({ judged, sizes, top, index }: { judged: Judged[]; sizes: number[]; top: number; index: number }) {
  const rows = [...new Set(judged.map(({ what }) => what))];
  const left = 390;
  const parts = judged.flatMap(({ part, spread }) => [part, ...spread]);
  const [least, most] = [Math.min(0.5, ...parts), Math.max(2, ...parts)].map((part) => Math.log2(part));
  const first = Math.floor(least!);
  const ticks = Array.from({ length: Math.ceil(most!) - first + 1 }, (_, nth) => 2 ** (first + nth));
  const axes = { xAxisIndex: index, yAxisIndex: index };
  const hasOthers = judged.some((each) => each.rows === undefined);
  const series = [...sizes, ...hasOthers ? [undefined] : []].map((size, nth) => {
    const own = judged.filter((each) => each.rows === size);
    // Sizes beside each other in a row.
    const offset = size === undefined
      ? 0
      : (nth - (sizes.length - 1) / 2) * Math.min(7, rowHeight / (sizes.length + 1));
    const place = ({ what }: Judged, part: number) => [part, rows.indexOf(what) + offset / rowHeight];
    const color = ({ part }: Judged) => part <= 1 ? colors.met : colors.missed;
    const name = size === undefined ? "others" : `${shortCount(size)} rows`;
    return {
      ...{ type: "scatter", name, color: ink, symbol: symbols[nth % symbols.length] },
      ...{ ...axes, symbolSize: 9 },
      data: own.map((each) => ({ value: place(each, each.part), itemStyle: { color: color(each) } })),
      markLine: {
        ...{ symbol: "none", silent: true },
        data: [
          ...own.map((each) => {
            const lineStyle = { color: color(each), type: "solid", width: 1.5 };
            return each.spread.map((part) => ({ coord: place(each, part), lineStyle, label: { show: false } }));
          }),
          ...(nth === 0
            ? [{ xAxis: 1, lineStyle: { color: ink, type: "dashed", width: 1.5 }, label: { show: false } }]
            : []),
        ],
      },
    };
  });
  return {
    title: heading("Parts of the targets: left of the line is met", margin - 34, top - 48),
    grid: { left, top, width: width - left - margin, height: Math.max(rows.length, 1) * rowHeight },
    xAxis: {
      ...{ type: "log", gridIndex: index, logBase: 2, min: ticks[0], max: ticks.at(-1) },
      axisLine: { onZero: false, lineStyle: { color: ink } },
      axisLabel: { customValues: ticks, formatter: shortPart, color: ink, fontFamily },
      axisTick: { customValues: ticks },
      splitLine: { lineStyle: { color: faint } },
    },
    yAxis: {
      ...{ type: "value", gridIndex: index, inverse: true, min: -0.5, max: Math.max(rows.length, 1) - 0.5 },
      axisLabel: {
        customValues: rows.map((_, row) => row),
        formatter: (row: number) => rows[row] ?? "",
        color: ink,
        fontFamily,
      },
      axisTick: { show: false },
      splitLine: { show: false },
    },
    legend: {
      data: series.map(({ name }) => name),
      ...{ left: left + 300, top: top - 48, itemWidth: 14, itemGap: 18 },
      textStyle: legendText,
    },
    series,
  };
}

const shortPart = (part: number) => part < 1 ? `1/${1 / part}` : String(part);
