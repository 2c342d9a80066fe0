// Line charts in SVG: axes, round ticks, a read-out that follows the pointer or the arrow keys. Redrawn at the size it has on the page.
import {h, replace, s} from "./dom.js";
import {brief, t} from "./words.js";

const MARGIN = {top: 10, right: 14, bottom: 34, left: 54};

/** Round numbers that cover a range: 1, 2 or 5 times a power of ten apart. */
export function ticks(low, high, most) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) * power;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) found.push(Number((at * step).toPrecision(12)));
  return found;
}

/** The mean of each point and its neighbours on both sides: it does not lag behind, as means of the past do. */
export function smooth(points) {
  const reach = Math.max(1, Math.min(25, Math.round(points.length / 60)));
  const sums = [0];
  for (const [, y] of points) sums.push(sums.at(-1) + y);
  return points.map(([x], at) => {
    const [from, to] = [Math.max(at - reach, 0), Math.min(at + reach + 1, points.length)];
    return [x, (sums[to] - sums[from]) / (to - from)];
  });
}

/**
 * series: [{name, points: [[x, y]] ascending in x, kind: "a".."d" (colour), faint, dots}]. Give new data with `draw`.
 * Returns {root, draw}.
 */
export function lineChart({label, xName}) {
  const readout = h("p", {class: "readout"});
  const picture = s("svg", {class: "chart", role: "img", "aria-label": label, tabindex: "0", onkeydown: key, onpointermove: point,
    onpointerleave: leave, onblur: leave});
  const root = h("figure", {class: "chart-box"}, picture, readout);
  let data = {series: [], xName};
  let view = null;
  let at = null; // x of the read-out
  new ResizeObserver(() => render()).observe(picture);
  return {root, draw};

  function draw(series, settings = {}) {
    data = {...data, ...settings, series: series.filter((one) => one.points.length)};
    render();
  }

  function render() {
    const width = Math.round(picture.clientWidth);
    const height = Math.round(picture.clientHeight);
    if (!width || !height) return;
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    view = frame(data.series, width, height, data.log);
    if (!view) { replace(picture); replace(readout, t("chart.empty")); return; }
    replace(picture, axes(view, width, height, data.xName), data.series.map((one) => line(one, view)), s("g", {class: "cursor"}));
    tell();
  }

  function tell() {
    const cursor = picture.querySelector(".cursor");
    if (!cursor || !view) return;
    const x = at ?? view.x1;
    const near = data.series.map((one) => ({...one, point: nearest(one.points, x)}));
    replace(readout, h("span", {class: "x"}, `${data.xName} ${brief(near[0].point[0])}`),
      near.filter((one) => !one.faint || data.series.length === 1).map((one) => h("span", {class: `key line-${one.kind}`}, `${one.name} `,
        h("b", {}, brief(one.point[1])))));
    replace(cursor, at === null ? [] : [
      s("line", {x1: view.px(x), x2: view.px(x), y1: view.top, y2: view.bottom, class: "hair"}),
      near.filter((one) => !one.faint).map((one) =>
        s("circle", {cx: view.px(one.point[0]), cy: view.py(one.point[1]), r: 3.5, class: `dot line-${one.kind}`})),
    ]);
  }

  function point(event) {
    if (!view) return;
    const box = picture.getBoundingClientRect();
    at = snap(view.ux(event.clientX - box.left));
    tell();
  }

  function key(event) {
    if (!view || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const step = (view.x1 - view.x0) / 50;
    const from = at ?? view.x1;
    at = snap({ArrowLeft: from - step, ArrowRight: from + step, Home: view.x0, End: view.x1}[event.key]);
    tell();
  }

  function leave() { at = null; tell(); }

  function snap(x) { return Math.min(Math.max(x, view.x0), view.x1); }
}

function frame(series, width, height, log) {
  const points = series.flatMap((one) => one.points).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (!log || y > 0));
  if (!points.length) return null;
  const scale = log ? Math.log10 : (y) => y;
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const [x, y] of points) {
    x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, scale(y)); y1 = Math.max(y1, scale(y));
  }
  if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
  const room = (y1 - y0 || Math.abs(y1) || 1) * 0.06;
  y0 -= room; y1 += room;
  const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
  return {
    x0, x1, y0, y1, left, right, top, bottom, log,
    px: (x) => left + ((x - x0) / (x1 - x0)) * (right - left),
    py: (y) => bottom - ((scale(y) - y0) / (y1 - y0)) * (bottom - top),
    ux: (px) => x0 + ((px - left) / (right - left)) * (x1 - x0),
  };
}

function axes(view, width, height, xName) {
  const across = ticks(view.x0, view.x1, Math.max(2, Math.floor((view.right - view.left) / 90)));
  const up = (view.log ? ticks(view.y0, view.y1, 4).map((power) => 10 ** power) : ticks(view.y0, view.y1, Math.max(2, Math.floor(height / 45))));
  return s("g", {class: "axes"},
    up.map((y) => [
      s("line", {x1: view.left, x2: view.right, y1: view.py(y), y2: view.py(y)}),
      s("text", {x: view.left - 8, y: view.py(y) + 4, "text-anchor": "end"}, brief(y)),
    ]),
    across.map((x) => s("text", {x: view.px(x), y: view.bottom + 17, "text-anchor": "middle"}, short(x))),
    s("text", {x: view.right, y: height - 3, "text-anchor": "end", class: "axis-name"}, xName));
}

function line({points, kind, faint, dots}, view) {
  const kept = thin(points, view).filter(([, y]) => Number.isFinite(y) && (!view.log || y > 0));
  const path = kept.map(([x, y], at) => `${at ? "L" : "M"}${view.px(x).toFixed(1)} ${view.py(y).toFixed(1)}`).join("");
  return s("g", {class: `line-${kind}${faint ? " faint" : ""}`}, s("path", {d: path}),
    dots || kept.length === 1 ? kept.map(([x, y]) => s("circle", {cx: view.px(x), cy: view.py(y), r: 2.5})) : null);
}

/** No more than the lowest and highest value of each column of pixels. */
function thin(points, view) {
  const columns = Math.max(Math.round(view.right - view.left), 1);
  if (points.length <= 2 * columns) return points;
  const found = [];
  let column = -1;
  for (const point of points) {
    const here = Math.round(view.px(point[0]));
    if (here !== column) { found.push(point, point); column = here; continue; }
    if (point[1] < found.at(-2)[1]) found[found.length - 2] = point;
    if (point[1] > found.at(-1)[1]) found[found.length - 1] = point;
  }
  return found;
}

function nearest(points, x) {
  let low = 0;
  let high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1; else high = middle;
  }
  return low && x - points[low - 1][0] < points[low][0] - x ? points[low - 1] : points[low];
}

function short(x) {
  for (const [size, sign] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(x) >= size) return `${brief(x / (sign === "k" ? 1e3 : size))}${sign}`;
  }
  return brief(x);
}

/** A line without axes, for a figure that moves. values: the last ones, oldest first; places: how many fill the width. */
export function sparkline(values, places) {
  const top = Math.max(...values, 1e-9);
  const points = values.map((value, at) => `${(100 * (at + places - values.length)) / Math.max(places - 1, 1)},${30 - (28 * value) / top}`);
  const first = (100 * (places - values.length)) / Math.max(places - 1, 1);
  return s("svg", {class: "spark", viewBox: "0 0 100 31", preserveAspectRatio: "none", "aria-hidden": "true"},
    values.length > 1 ? s("polygon", {points: `${first},31 ${points.join(" ")} 100,31`, class: "area"}) : null,
    s("polyline", {points: points.join(" ")}));
}
