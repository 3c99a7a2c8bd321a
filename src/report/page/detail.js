// One point: its layers, its activations before and after smoothing, its recipe.
"use strict";

const LAYER_COLUMNS = ["local_sqnr_db", "accumulated_sqnr_db", "l1", "cosine", "saturated"];
const chosen = { value: null, log: true, sort: "order", group: null };

function layersOf(point) {
  if (!point.layers || point.layers.length === 0) return [];
  return point.layers.map((figures, i) => {
    const row = { ...data.layer_sets[point.layer_set][i], place: i };
    LAYER_COLUMNS.forEach((name, column) => { row[name] = figures[column]; });
    return row;
  });
}

function shortName(name) {
  const width = innerWidth < 600 ? 20 : 34;
  return name.length > width ? "…" + name.slice(name.length - width + 1) : name;
}

function layerBars(rows, sets, title) {
  const make = () => ({
    data: {
      labels: rows.map((r) => shortName(r.node)),
      datasets: sets.map(({ name, label, index }) => ({
        label, data: rows.map((r) => r[name]), backgroundColor: faint(colour(index), 0.8),
        barPercentage: 0.85, categoryPercentage: 0.8,
      })),
    },
    options: {
      indexAxis: "y",
      scales: {
        x: { ...axis(title), min: Math.min(0, ...rows.flatMap((r) => sets.map((s) => r[s.name] ?? 0))) },
        y: { ...axis("", { ticks: { font: { size: 11 }, autoSkip: false } }), grid: { display: false } },
      },
      plugins: {
        legend: { display: sets.length > 1 },
        tooltip: { callbacks: { title: (items) => `${rows[items[0].dataIndex].node} (${rows[items[0].dataIndex].op})` } },
      },
    },
  });
  return chart("bar", 80 + rows.length * 20, { label: title, make });
}

function layersSection(point) {
  const rows = layersOf(point);
  if (rows.length === 0) {
    return point.analyze_note
      ? section("Layers", `Not compared layer by layer: ${point.analyze_note}`) : null;
  }
  const order = [...rows];
  if (chosen.sort !== "order") {
    const worstHigh = chosen.sort === "l1";
    order.sort((a, b) => (worstHigh ? b.l1 - a.l1 : a[chosen.sort] - b[chosen.sort]));
  }
  const figure = (title, name, digits) => ({
    title, value: (r) => r[name], text: (r) => number(r[name], digits), firstUp: name !== "l1",
  });
  const table = sortableTable([
    { title: "#", value: (r) => r.place, text: (r) => String(r.place + 1) },
    { title: "Layer", left: true, value: (r) => r.node, text: (r) => r.node },
    { title: "Operator", left: true, value: (r) => r.op, text: (r) => r.op },
    figure("SQNR alone (dB)", "local_sqnr_db", 3),
    figure("SQNR accumulated (dB)", "accumulated_sqnr_db", 3),
    figure("L1", "l1", 4), figure("Cosine", "cosine", 6),
    { title: "Saturated", value: (r) => r.saturated, text: (r) => `${number(100 * r.saturated, 3)} %`, firstUp: false },
  ], rows);
  table.node.id = "layers";
  return section("Layers",
    "Signal to quantization noise of each layer alone (float inputs, its own quantizers) and of the whole quantized model up to it; " +
    "mean absolute error (L1) of its output.",
    el("div", { class: "row" }, choose("Order", [["order", "as they run"],
      ["local_sqnr_db", "worst alone first"], ["accumulated_sqnr_db", "worst accumulated first"],
      ["l1", "largest L1 first"]], chosen.sort, (v) => { chosen.sort = v; pick(point); })),
    el("div", { class: "two" },
      el("div", {}, layerBars(order, [{ name: "local_sqnr_db", label: "alone", index: 0 },
        { name: "accumulated_sqnr_db", label: "accumulated", index: 1 }], "SQNR (dB)")),
      el("div", {}, layerBars(order, [{ name: "l1", label: "L1", index: 2 }], "L1, accumulated"))),
    el("details", {}, el("summary", { text: "All figures" }), table.node));
}

function magnitudes(before, after) {
  const sets = [["before smoothing", before, 0], ["after smoothing", after, 1]].filter((s) => s[1]);
  const channels = (before || after).absmax.length;
  const make = () => ({
    data: {
      labels: Array.from({ length: channels }, (_unused, i) => i),
      datasets: sets.map(([label, v, index]) => ({
        label: after ? label : "max |x|", data: v.absmax, backgroundColor: faint(colour(index), 0.75),
        barPercentage: 1, categoryPercentage: channels > 64 ? 1 : 0.85,
      })),
    },
    options: {
      scales: { x: { ...axis("Channel", { ticks: { maxRotation: 0 } }), grid: { display: false } }, y: axis("max |x|") },
      plugins: { legend: { display: sets.length > 1 } },
    },
  });
  return chart("bar", 260, { label: "Magnitude of each channel", make });
}

function histogram(title, v, range, index) {
  const width = (v.hi - v.lo) / v.counts.length || 1;
  const total = v.counts.reduce((a, b) => a + b, 0) || 1;
  const lines = () => (range ? [[range.lo, 0], [range.hi, 1]].map(([x, row]) =>
    ({ x, row, text: number(x, 4), color: css("--bad") })) : []);
  const make = () => ({
    data: { datasets: [{ label: title, backgroundColor: faint(colour(index), 0.75), barPercentage: 1,
      categoryPercentage: 1,
      data: v.counts.map((c, i) => ({ x: v.lo + (i + 0.5) * width, y: c > 0 ? c / total : null })) }] },
    options: {
      scales: {
        x: { type: "linear", offset: false, ...axis("Value"),
          min: Math.min(v.lo, range ? range.lo : v.lo), max: Math.max(v.hi, range ? range.hi : v.hi) },
        y: { type: chosen.log ? "logarithmic" : "linear", ...axis("Share of elements"),
          ticks: { maxTicksLimit: 6, callback: (t) => (t === 0 ? "0" : Number(t).toExponential(0)) } },
      },
      plugins: { legend: { display: false }, marks: { lines: lines() },
        tooltip: { callbacks: { title: (items) => number(items[0].raw.x),
          label: (item) => `${number(100 * item.raw.y, 3)} % of the elements` } } },
    },
  });
  return el("div", {}, el("p", { class: "note", text: title }),
    chart("bar", 240, { label: title, make }));
}

// The value a smoothing Mul was put before, or the value of the same name.
function activationsSection(point) {
  const before = data.views[point.before];
  const after = data.views[point.after];
  if (!before && !after) return null;
  const names = Object.keys((before || after)).sort((a, b) => orderOf(point, a) - orderOf(point, b));
  if (!names.includes(chosen.value)) {
    const outlier = (v) => Math.max(...v.absmax) / (median(v.absmax) || 1e-30);
    const spread = names.filter((n) => (before || after)[n].absmax.length > 1);
    const gridded = spread.filter((n) => point.ranges[n]);
    const live = gridded.length > 0 ? gridded : spread;
    chosen.value = live.sort((a, b) => outlier((before || after)[b]) - outlier((before || after)[a]))[0] || names[0];
    names.sort((a, b) => orderOf(point, a) - orderOf(point, b));
  }
  const one = before && before[chosen.value];
  const two = after && after[chosen.value];
  const range = point.ranges[chosen.value];
  const text = range ? `Grid of this value: ${number(range.lo)} … ${number(range.hi)} by ${range.method}${range.format ? ` in ${range.format}` : ""}, ` +
    `step ${number(range.scale)}; ${number(100 * range.clipped, 3)} % of the elements lie outside.`
    : "This value has no grid of its own.";
  return section("Activations", `Largest magnitude of each channel, and how the values are spread, over the calibration samples. ${text}`,
    el("div", { class: "row" },
      choose("Value", names.map((n) => [n, n]), chosen.value, (v) => { chosen.value = v; pick(point); }),
      choose("Counts", [["log", "logarithmic"], ["linear", "linear"]], chosen.log ? "log" : "linear",
        (v) => { chosen.log = v === "log"; pick(point); })),
    magnitudes(one, two),
    two && one ? el("div", { class: "two" }, histogram("Before smoothing", one, null, 0),
      histogram(range ? "After smoothing, with the range chosen" : "After smoothing", two, range, 1))
      : histogram(range ? "Values, with the range chosen" : "Values", one || two, range, 0));
}

function median(list) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function orderOf(point, name) {
  const at = Object.keys(point.ranges).indexOf(name);
  return at < 0 ? 1e9 : at;
}

// Error over α for each group of channels, where the recipe looked for the best.
function smoothingSection(point) {
  const rows = (point.smoothing || []).filter((r) => r.errors.length > 2);
  if (rows.length === 0) return null;
  const names = rows.map((r) => `${r.group} (round ${r.round})`);
  if (!names.includes(chosen.group)) chosen.group = names[0];
  const row = rows[names.indexOf(chosen.group)];
  const decibel = (e) => 10 * Math.log10(Math.max(e, 1e-12));
  const unsmoothed = row.errors.find(([a]) => a === null);
  const curve = row.errors.filter(([a, e]) => a !== null && e !== null);
  const make = () => ({
    data: { datasets: [{ label: "noise / signal", borderColor: colour(0), backgroundColor: colour(0),
      data: curve.map(([a, e]) => ({ x: a, y: decibel(e) })),
      pointRadius: curve.map(([a]) => (row.applied && Math.abs(a - row.alpha) < 1e-6 ? 7 : 3)) }] },
    options: {
      scales: { x: { type: "linear", ...axis("α") }, y: axis("noise / signal (dB), lower is better") },
      plugins: { legend: { display: false },
        marks: { level: { value: unsmoothed ? decibel(unsmoothed[1]) : NaN, text: "not smoothed" } } },
    },
  });
  return section("Smoothing by group",
    `Error of the readers' outputs for each α. ${row.applied ? `Taken: α = ${number(row.alpha)}.` : "Left as it was."}`,
    el("div", { class: "row" }, choose("Channels of", names.map((n) => [n, n]), chosen.group,
      (v) => { chosen.group = v; pick(point); })),
    chart("line", 280, { label: "Error against α", make }));
}

function rangesTable(point) {
  const names = Object.keys(point.ranges);
  if (names.length === 0) return null;
  const rows = names.map((name, place) => ({ name, place, ...point.ranges[name] }));
  const figure = (title, key) => ({ title, value: (r) => r[key], text: (r) => number(r[key]) });
  const table = sortableTable([
    { title: "Value", left: true, value: (r) => r.name, text: (r) => r.name },
    figure("Low", "lo"), figure("High", "hi"), figure("Scale", "scale"),
    ...(rows.some((r) => r.format) ? [{ title: "Format", left: true, value: (r) => r.format, text: (r) => r.format }] : []),
    { title: "Estimator", left: true, value: (r) => r.method, text: (r) => r.method },
    { title: "Clipped", value: (r) => r.clipped, text: (r) => `${number(100 * r.clipped, 3)} %`, firstUp: false },
  ], rows);
  table.node.id = "ranges";
  return el("details", { open: data.kind === "quantize" ? "" : undefined },
    el("summary", { text: `Ranges of ${rows.length} activations` }), table.node);
}

function buildDetail(point) {
  const box = document.getElementById("detail");
  if (!point) {
    box.replaceChildren();
    return;
  }
  const about = section(data.kind === "sweep" ? `Point: ${shortLabel(point)}` : point.label,
    [point.model, point.block, point.label, ...Object.entries(point.metrics).map(([name, m]) =>
      `${metricInfo(name).title} ${metricText(name, m[0])}`)].filter(Boolean).join(" · "),
    ...(point.warnings || []).map((text) => el("p", { class: "note", text: `Warning: ${text}` })),
    rangesTable(point),
    point.recipe ? el("details", {}, el("summary", { text: "Effective recipe" }),
      el("pre", { text: point.recipe })) : null);
  box.replaceChildren(...[about, layersSection(point), activationsSection(point),
    smoothingSection(point)].filter(Boolean));
}
