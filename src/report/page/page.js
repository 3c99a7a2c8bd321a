// The page: tiles, table of points, curves, heat table, layers, activations, costs.
"use strict";

const points = data.points;
const quantized = points.filter((p) => p.kind === "point");
const done = quantized.filter((p) => p.status === "done");
const models = [...new Set(points.map((p) => p.model))];
const metricNames = [...new Set(points.flatMap((p) => Object.keys(p.metrics)))]
  .sort((a, b) => Object.keys(METRICS).indexOf(a) - Object.keys(METRICS).indexOf(b));
const keys = [...new Set(quantized.flatMap((p) => Object.keys(p.settings)))];
const main = document.getElementById("main");

const view = { model: models[0], metric: metricNames[0], point: null };

const value = (p, metric) => (p.metrics[metric] ? p.metrics[metric][0] : null);
const floatOf = (model) => points.find((p) => p.kind === "float" && p.model === model);
const ofModel = () => done.filter((p) => p.model === view.model);
// What a key is in a point that does not set it: as its recipe has it.
const setting = (p, key) => p.settings[key] ?? p.recipe_values[key] ?? "–";
const distinct = (list) => [...new Set(list)];
// Keys that every point sets alike: said once, above the table.
const common = quantized.length < 2 ? [] : keys.filter((key) =>
  distinct(quantized.map((p) => p.settings[key])).length === 1);
// Keys that are set alike in every point share a column: [[key, ...], ...].
const keyGroups = keys.filter((key) => !common.includes(key)).reduce((groups, key) => {
  const same = groups.find(([first]) => quantized.every((p) => p.settings[first] === p.settings[key]));
  if (same) same.push(key);
  else groups.push([key]);
  return groups;
}, []);
const natural = (a, b) => String(a).localeCompare(String(b), "en", { numeric: true });

function better(metric, a, b) {
  if (value(a, metric) === null) return false;
  if (value(b, metric) === null) return true;
  return metricInfo(metric).up ? value(a, metric) > value(b, metric)
    : value(a, metric) < value(b, metric);
}

function best(list, metric) {
  let first = null;
  const ties = metricNames.includes("kl") ? "kl" : metric;
  for (const p of list) {
    if (first === null || better(metric, p, first) ||
      (value(p, metric) === value(first, metric) && better(ties, p, first))) first = p;
  }
  return first;
}

// Values alone where they speak for themselves, once where two keys share one, and without what all
// points have: "e3m4, channel, mse, alpha=0.5".
function shortLabel(p) {
  const parts = Object.entries(p.settings).filter(([key]) => !common.includes(key)).map(([key, v]) =>
    (v === "" || !Number.isNaN(Number(v)) || ["true", "false", "on", "off", "auto", "none"].includes(v)
      ? `${key}=${v}` : v));
  return distinct(parts).join(", ") || p.label;
}

// The span of intervals and of the float model's figure, with some air.
function spanOf(list, metric, level) {
  const ends = [...list.flatMap((p) => p.metrics[metric]), level].filter((v) => v !== null && Number.isFinite(v));
  const [lo, hi] = [Math.min(...ends), Math.max(...ends)];
  const air = 0.05 * (hi - lo || Math.abs(hi) || 1);
  if (metricInfo(metric).percent && hi - lo > 0.02)
    return { min: Math.floor(100 * (lo >= 0 ? Math.max(0, lo - air) : lo - air)) / 100, max: Math.min(1, Math.ceil(100 * (hi + air)) / 100) };
  return { min: lo >= 0 ? Math.max(0, lo - air) : lo - air, max: metricInfo(metric).percent ? Math.min(1, hi + air) : hi + air };
}

function tile(figure, text) {
  return el("div", { class: "tile" }, el("b", { text: figure }), el("span", { text }));
}

function tiles() {
  const box = el("div", { class: "tiles" });
  const count = (status) => quantized.filter((p) => p.status === status).length;
  if (data.kind === "sweep") {
    const other = [[count("failed"), "failed"], [count("refused"), "refused"]]
      .filter(([n]) => n > 0).map(([n, text]) => `${n} ${text}`).join(", ");
    box.append(tile(String(count("done")), `points done${other ? "; " + other : ""}`));
  }
  const reference = floatOf(view.model);
  if (reference && value(reference, view.metric) !== null)
    box.append(tile(metricText(view.metric, value(reference, view.metric)),
      `${metricInfo(view.metric).title}, float32, ${reference.samples} samples`));
  const first = view.metric && best(ofModel(), view.metric);
  if (first && value(first, view.metric) !== null)
    box.append(tile(metricText(view.metric, value(first, view.metric)),
      `best ${metricInfo(view.metric).title}: ${shortLabel(first)}`));
  for (const fact of data.facts || []) box.append(tile(fact[0], fact[1]));
  return box;
}

function metricColumn(name) {
  return {
    title: metricInfo(name).title,
    firstUp: !metricInfo(name).up,
    value: (p) => value(p, name),
    text: (p) => metricText(name, value(p, name)),
    detail(p) {
      const m = p.metrics[name];
      if (!m || m[1] === null || m[2] === null || m[1] === m[2]) return "";
      const short = (v) => (metricInfo(name).percent ? (100 * v).toFixed(1) : number(v, 3));
      return `${short(m[1])} … ${short(m[2])}`;
    },
  };
}

function pointsSection() {
  if (data.kind !== "sweep") return null;
  const columns = [];
  if (models.length > 1) columns.push({ title: "Model", left: true, value: (p) => p.model, text: (p) => p.model });
  const point = (p) => (p.kind === "float" ? "float32" : shortLabel(p));
  columns.push({ title: "Point", left: true, wrap: true, fixed: models.length === 1, value: point, text: point });
  for (const name of metricNames) columns.push(metricColumn(name));
  if (points.some((p) => p.latency_s !== null))
    columns.push({ title: "Latency", value: (p) => p.latency_s, text: (p) => duration(p.latency_s) });
  if (points.some((p) => p.cost !== null))
    columns.push({ title: "Cost", value: (p) => p.cost, text: (p) => number(p.cost) });
  const narrow = innerWidth < 600;
  if (!narrow && distinct(quantized.map((p) => p.block)).length > 1)
    columns.push({ title: "Block", left: true, value: (p) => p.block, text: (p) => p.block });
  for (const group of narrow ? [] : keyGroups) {
    const [key] = group;
    const sorted = (p) => {
      const v = p.settings[key];
      return v === undefined ? null : v !== "" && !Number.isNaN(Number(v)) ? Number(v) : v;
    };
    columns.push({ title: group.join(", "), left: true, value: sorted,
      text: (p) => (p.kind === "float" ? "" : p.settings[key] ?? "·") });
  }
  columns.push({ title: "Took", value: (p) => p.seconds, text: (p) => duration(p.seconds) });
  if (quantized.some((p) => p.status !== "done"))
    columns.push({ title: "Remark", left: true, wrap: true, value: (p) => p.error, text: (p) => p.error });
  const table = sortableTable(columns, points, {
    pick: (p) => p.status === "done" && p.kind === "point" && pick(p),
    rowClass: (p) => `${p.status}${p === view.point ? " chosen" : ""}`,
  });
  table.node.id = "points";
  view.table = table;
  const filter = el("input", {
    type: "search", placeholder: "Filter, e.g. mse", "aria-label": "Filter the points",
    oninput: () => table.filter(filter.value),
  });
  return section("Points",
    "Every point with its 95 % interval. A click on a heading sorts; a click on a row shows its layers and activations below. " +
    "Intervals that overlap are no difference.", el("div", { class: "row" }, filter,
    common.length === 0 ? null : el("span", { class: "note flat", id: "common", text: "In all points: " +
      common.map((key) => `${key} = ${quantized[0].settings[key]}`).join(", ") })), table.node);
}

// Lines over a numeric key, one per combination of the other keys.
function curveSection(key) {
  const varied = ofModel().filter((p) => p.settings[key] !== undefined &&
    !Number.isNaN(Number(p.settings[key])) && value(p, view.metric) !== null);
  if (distinct(varied.map((p) => p.settings[key])).length < 3) return null;
  const others = keys.filter((k) => k !== key &&
    distinct(varied.map((p) => p.settings[k])).length > 1);
  const blocks = distinct(varied.map((p) => p.block)).length > 1;
  const groups = new Map();
  for (const p of varied) {
    const name = [blocks ? p.block : null, ...others.filter((k) => p.settings[k] !== undefined)
      .map((k) => p.settings[k])].filter((part) => part !== null).join(", ") || key;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(p);
  }
  const info = metricInfo(view.metric);
  const reference = floatOf(view.model);
  const level = reference ? value(reference, view.metric) : NaN;
  const title = key === "alpha" ? "Smoothing strength α" : key;
  const make = () => ({
    data: {
      datasets: [...groups].slice(0, 8).map(([name, list], index) => {
        const sorted = list.sort((a, b) => Number(a.settings[key]) - Number(b.settings[key]));
        return {
          label: name,
          data: sorted.map((p) => ({ x: Number(p.settings[key]), y: value(p, view.metric), p })),
          intervals: sorted.map((p) => p.metrics[view.metric].slice(1)),
          borderColor: colour(index), backgroundColor: colour(index), borderWidth: 2,
          whiskerColor: faint(colour(index), 0.45), pointRadius: 3.5, pointHoverRadius: 6,
        };
      }),
    },
    options: {
      onClick: (_event, items, live) => items.length &&
        pick(live.data.datasets[items[0].datasetIndex].data[items[0].index].p),
      scales: {
        x: { type: "linear", ...axis(title, { grace: "4%" }) },
        y: { ...axis(info.title, { ticks: ticksOf(view.metric) }), ...spanOf(varied, view.metric, level) },
      },
      plugins: {
        legend: { display: groups.size > 1 },
        tooltip: { callbacks: {
          title: (items) => items[0].raw.p.label,
          label: (item) => `${info.title} ${metricText(view.metric, item.raw.y)}` } },
        marks: { level: { value: level, text: "float32" } },
      },
    },
  });
  return section(`${info.title} against ${key === "alpha" ? "α" : key}`,
    "Whiskers are 95 % intervals; the dashed line is the float model.",
    chart("line", 340, { label: `${info.title} against ${key}`, make }));
}

function shade(share) {
  const from = css("--heat-lo").split(",").map(Number);
  const to = css("--heat-hi").split(",").map(Number);
  const mixed = from.map((v, i) => Math.round(v + (to[i] - v) * share));
  const light = (0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2]) / 255;
  return `background: rgb(${mixed.join(",")}); color: ${light > 0.55 ? "#14202e" : "#ffffff"}`;
}

// Keys whose values read well as rows and columns, likely ones first.
function heatKeys() {
  const wanted = ["activation_format", "weight_format", "multiplier", "estimator",
    "weight_granularity"];
  const rank = (key) => (wanted.indexOf(key) + 1 || 99);
  return keys.filter((key) => {
    const n = distinct(ofModel().map((p) => p.settings[key]).filter((v) => v !== undefined)).length;
    return n >= 2 && n <= 24;
  }).sort((a, b) => rank(a) - rank(b));
}

function heatSection() {
  const possible = heatKeys();
  if (possible.length < 2) return null;
  if (!possible.includes(view.rows)) view.rows = possible[0];
  if (!possible.includes(view.columns) || view.columns === view.rows) {
    // Keys that change together make a diagonal: take one that crosses the rows.
    const crosses = (key) => {
      const set = ofModel().filter((p) => p.settings[view.rows] !== undefined ||
        p.settings[key] !== undefined);
      const count = (text) => distinct(set.map(text)).length;
      return count((p) => `${setting(p, view.rows)}|${setting(p, key)}`) >
        Math.max(count((p) => setting(p, view.rows)), count((p) => setting(p, key)));
    };
    view.columns = possible.find((k) => k !== view.rows && crosses(k)) ||
      possible.find((k) => k !== view.rows);
    // Long names read better in front of a row than above a column.
    const longest = (key) => Math.max(...ofModel().map((p) => String(setting(p, key)).length));
    if (longest(view.columns) > longest(view.rows))
      [view.rows, view.columns] = [view.columns, view.rows];
  }
  // One of the two set, the other as the recipe has it.
  const list = ofModel().filter((p) => p.settings[view.rows] !== undefined ||
    p.settings[view.columns] !== undefined);
  const shown = (key, p) => setting(p, key);
  const rows = distinct(list.map((p) => shown(view.rows, p)));
  const columns = distinct(list.map((p) => shown(view.columns, p)));
  const cell = (r, c) => best(list.filter((p) => shown(view.rows, p) === r &&
    shown(view.columns, p) === c), view.metric);
  const values = rows.flatMap((r) => columns.map((c) => cell(r, c)))
    .filter((p) => p && value(p, view.metric) !== null).map((p) => value(p, view.metric));
  const up = metricInfo(view.metric).up;
  const [worst, top] = up ? [Math.min(...values), Math.max(...values)]
    : [Math.max(...values), Math.min(...values)];
  const share = (v) => (top === worst ? 1 : (v - worst) / (top - worst));
  const breakable = (text) => text.replace(/([,:])/g, "$1\u200b");
  const body = rows.map((r) => el("tr", {}, el("th", { class: "text", scope: "row", text: breakable(r) }),
    ...columns.map((c) => {
      const p = cell(r, c);
      if (!p || value(p, view.metric) === null) return el("td", { text: "–" });
      const v = value(p, view.metric);
      return el("td", {
        style: shade(share(v)), title: p.label, class: v === top ? "best" : undefined,
        text: metricText(view.metric, v), onclick: () => pick(p),
      });
    })));
  const rebuild = (name) => (chosen) => {
    view[name] = chosen;
    build();
  };
  const options = possible.map((key) => [key, key]);
  const made = section(`${metricInfo(view.metric).title} over ${view.rows} and ${view.columns}`,
    "Each cell is the best of its points; the deeper the colour, the better. What a point does not set is as in its recipe.",
    el("div", { class: "row" }, choose("Rows", options, view.rows, rebuild("rows")),
      choose("Columns", options, view.columns, rebuild("columns"))),
    el("div", { class: "scroll" }, el("table", { class: "heat" },
      el("thead", {}, el("tr", {}, el("th", { class: "text", text: "" }),
        ...columns.map((c) => el("th", { scope: "col", text: breakable(c) })))),
      el("tbody", {}, ...body))));
  made.classList.toggle("full", columns.length > 5);
  return made;
}

function rankingSection() {
  const list = ofModel().filter((p) => value(p, view.metric) !== null);
  if (list.length < 2) return null;
  const up = metricInfo(view.metric).up;
  const ranked = [...list].sort((a, b) => (value(a, view.metric) - value(b, view.metric)) * (up ? -1 : 1));
  const shown = ranked.slice(0, 20);
  const reference = floatOf(view.model);
  const level = reference ? value(reference, view.metric) : NaN;
  const width = innerWidth < 600 ? 24 : 52;
  const text = (p) => (shortLabel(p).length > width ? shortLabel(p).slice(0, width - 1) + "…" : shortLabel(p));
  // Dots, not bars: the axis need not begin at 0.
  const make = () => ({
    data: {
      labels: shown.map(text),
      datasets: [{
        data: shown.map((p) => value(p, view.metric)), showLine: false,
        intervals: shown.map((p) => p.metrics[view.metric].slice(1)),
        pointBackgroundColor: shown.map((p) => colour(p === view.point ? 1 : 0)),
        pointBorderColor: shown.map((p) => colour(p === view.point ? 1 : 0)),
        pointRadius: 5, pointHoverRadius: 7, whiskerColor: css("--muted"),
      }],
    },
    options: {
      indexAxis: "y",
      onClick: (_event, items) => items.length && pick(shown[items[0].index]),
      scales: {
        x: { ...axis(metricInfo(view.metric).title, { ticks: ticksOf(view.metric) }),
          ...spanOf(shown, view.metric, level) },
        y: { ...axis("", { ticks: { font: { size: 11 }, autoSkip: false } }), offset: true },
      },
      plugins: {
        legend: { display: false },
        tooltip: { callbacks: { title: (items) => shown[items[0].dataIndex].label,
          label: (item) => metricText(view.metric, item.raw) } },
        marks: { level: { value: level, text: "" } },
      },
    },
  });
  return section(`Ranking by ${metricInfo(view.metric).title}`,
    `The ${shown.length} best of ${list.length}, with 95 % intervals; the dashed line is the float model.`,
    chart("line", 60 + 22 * shown.length, { label: "Ranking of the points", make }));
}

const COSTS = {
  latency_s: { title: "Latency of one sample on one thread (ms)", factor: 1000 },
  cost: { title: "Cost", factor: 1 },
};

// Logarithmic where costs are far apart.
function costAxis(costs, title) {
  const [lo, hi] = [Math.min(...costs), Math.max(...costs)];
  if (lo > 0 && hi > 20 * lo) {
    const round = (v) => Number(v.toPrecision(1));
    return { ...axis(title, { ticks: { callback: (v) => (/^[13]/.test(Number(v).toExponential()) ? number(v) : ""), maxRotation: 0 } }), type: "logarithmic",
      min: round(lo / 1.3), max: round(hi * 1.5) };
  }
  const air = 0.05 * (hi - lo || hi || 1);
  return { ...axis(title), type: "linear", min: lo >= 0 ? Math.max(0, lo - air) : lo - air, max: hi + air };
}

function paretoSection() {
  const axes = Object.keys(COSTS).filter((c) => ofModel().some((p) => p[c] !== null));
  if (axes.length === 0) return null;
  if (!axes.includes(view.cost)) view.cost = axes[0];
  const { title, factor } = COSTS[view.cost];
  const info = metricInfo(view.metric);
  const list = ofModel().filter((p) => p[view.cost] !== null && value(p, view.metric) !== null)
    .sort((a, b) => a[view.cost] - b[view.cost]);
  const front = [];
  for (const p of list) {
    const last = front[front.length - 1];
    if (!last || better(view.metric, p, last)) {
      if (last && last[view.cost] === p[view.cost]) front.pop();
      front.push(p);
    }
  }
  const at = (p) => ({ x: factor * p[view.cost], y: value(p, view.metric), p });
  const reference = floatOf(view.model);
  const sets = () => [
    { type: "line", label: "not beaten", data: front.map(at),
      intervals: front.map((p) => p.metrics[view.metric].slice(1)),
      whiskerColor: faint(colour(1), 0.5), borderColor: colour(1), borderWidth: 2,
      backgroundColor: colour(1), stepped: "before", pointRadius: 5 },
    { label: "others", data: list.filter((p) => !front.includes(p)).map(at),
      intervals: list.filter((p) => !front.includes(p)).map((p) => p.metrics[view.metric].slice(1)),
      whiskerColor: faint(colour(0), 0.35),
      backgroundColor: faint(colour(0), 0.7), pointRadius: 4 },
    ...(reference && reference[view.cost] !== null ? [{ label: "float32", data: [at(reference)],
      backgroundColor: css("--text"), pointStyle: "rectRot", pointRadius: 6 }] : []),
  ];
  const make = () => ({
    data: { datasets: sets() },
    options: {
      onClick: (_event, items, live) => items.length &&
        pick(live.data.datasets[items[0].datasetIndex].data[items[0].index].p),
      scales: {
        x: costAxis(list.map((p) => factor * p[view.cost]), title),
        y: { ...axis(info.title, { ticks: ticksOf(view.metric) }), ...spanOf(list, view.metric, NaN) },
      },
      plugins: { tooltip: { callbacks: { label: (item) =>
        `${item.raw.p.label}: ${metricText(view.metric, item.raw.y)} at ${number(item.raw.x)}` } } },
    },
  });
  return section(`${info.title} against ${view.cost === "cost" ? "cost" : "latency"}`,
    "The line joins the points that no other beats in both; whiskers are 95 % intervals.",
    axes.length > 1 ? el("div", { class: "row" }, choose("Cost", axes.map((a) => [a, COSTS[a].title]),
      view.cost, (chosen) => { view.cost = chosen; build(); })) : null,
    chart("scatter", 340, { label: "Pareto front", make }));
}

function build() {
  const parts = [tiles(), pointsSection()];
  if (view.metric) {
    const curves = keys.map(curveSection).filter(Boolean);
    parts.push(...pairs([...curves, heatSection()].filter(Boolean)));
    parts.push(...pairs([rankingSection(), paretoSection()].filter(Boolean)));
  }
  parts.push(el("div", { id: "detail" }));
  main.replaceChildren(...parts.filter(Boolean));
  buildDetail(view.point);
  drawCharts();
}

// Two beside each other where the window is wide; those that need all of it alone.
function pairs(sections) {
  const boxes = sections.filter((one) => one.classList.contains("full"));
  const rest = sections.filter((one) => !boxes.includes(one));
  for (let i = 0; i < rest.length; i += 2) {
    if (i + 1 === rest.length) boxes.push(rest[i]);
    else boxes.push(el("div", { class: "two" }, rest[i], rest[i + 1]));
  }
  return boxes;
}

function pick(point) {
  view.point = point;
  if (view.table) view.table.refresh();
  buildDetail(point);
  drawCharts();
}

function controls() {
  const bar = document.getElementById("controls");
  const items = [];
  const rebuild = (name) => (chosen) => {
    view[name] = chosen;
    if (name === "model") view.point = best(ofModel(), view.metric) || ofModel()[0] || null;
    build();
  };
  if (models.length > 1)
    items.push(choose("Model", models.map((m) => [m, m]), view.model, rebuild("model")));
  if (metricNames.length > 1)
    items.push(choose("Judge by", metricNames.map((m) => [m, metricInfo(m).title]), view.metric,
      rebuild("metric")));
  if (items.length === 0) return;
  bar.append(el("div", { class: "wide" }, ...items));
  bar.hidden = false;
}

document.getElementById("subtitle").textContent = data.subtitle;
document.getElementById("footer").textContent = data.footer;
view.point = (view.metric && best(ofModel(), view.metric)) || ofModel()[0] || null;
controls();
build();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  build();
  redrawCharts();
});
document.documentElement.dataset.state = "ready";
