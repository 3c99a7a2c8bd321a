// Charts on top of Chart.js: colours of the page, intervals, ranges marked in histograms.
"use strict";

const charts = [];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (index) => css("--c" + (index % 8));

function faint(hex, alpha) {
  const part = (at) => parseInt(hex.slice(at, at + 2), 16);
  return `rgba(${part(1)}, ${part(3)}, ${part(5)}, ${alpha})`;
}

// dataset.intervals: [[lo, hi], ...] drawn as whiskers beside the points or bars.
const whiskers = {
  id: "whiskers",
  afterDatasetsDraw(chart) {
    const flat = chart.options.indexAxis === "y";
    const scale = flat ? chart.scales.x : chart.scales.y;
    const context = chart.ctx;
    const { left, right, top, bottom } = chart.chartArea;
    context.save();
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    context.clip();
    chart.data.datasets.forEach((set, index) => {
      if (!set.intervals || !chart.isDatasetVisible(index)) return;
      context.strokeStyle = set.whiskerColor || set.borderColor || css("--muted");
      context.lineWidth = 1;
      chart.getDatasetMeta(index).data.forEach((point, i) => {
        const interval = set.intervals[i];
        if (!interval || interval[0] === null || interval[1] === null) return;
        const lo = scale.getPixelForValue(interval[0]);
        const hi = scale.getPixelForValue(interval[1]);
        context.beginPath();
        if (flat) {
          context.moveTo(lo, point.y);
          context.lineTo(hi, point.y);
          for (const x of [lo, hi]) context.moveTo(x, point.y - 3), context.lineTo(x, point.y + 3);
        } else {
          context.moveTo(point.x, lo);
          context.lineTo(point.x, hi);
          for (const y of [lo, hi]) context.moveTo(point.x - 3, y), context.lineTo(point.x + 3, y);
        }
        context.stroke();
      });
    });
    context.restore();
  },
};

// options.marks: [{x, text, color}] vertical lines in data coordinates; options.level: {y, text}.
const marks = {
  id: "marks",
  afterDatasetsDraw(chart, _arguments, options) {
    const { top, bottom, left, right } = chart.chartArea;
    const context = chart.ctx;
    context.save();
    context.font = "11px system-ui, sans-serif";
    context.setLineDash([4, 3]);
    context.lineWidth = 1.5;
    for (const mark of options.lines || []) {
      const x = chart.scales.x.getPixelForValue(mark.x);
      if (!(x >= left - 1 && x <= right + 1)) continue;
      context.strokeStyle = context.fillStyle = mark.color;
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, bottom);
      context.stroke();
      const width = context.measureText(mark.text).width;
      const at = Math.min(Math.max(x + 4, left), right - width - 4), line = top + mark.row * 16;
      context.fillStyle = css("--card");
      context.fillRect(at - 2, line + 1, width + 4, 13);
      context.fillStyle = mark.color;
      context.fillText(mark.text, at, line + 11);
    }
    if (options.level && Number.isFinite(options.level.value)) {
      const flat = chart.options.indexAxis === "y";
      const at = (flat ? chart.scales.x : chart.scales.y).getPixelForValue(options.level.value);
      context.strokeStyle = context.fillStyle = css("--muted");
      context.beginPath();
      context.moveTo(flat ? at : left, flat ? top : at);
      context.lineTo(flat ? at : right, flat ? bottom : at);
      context.stroke();
      if (!flat) context.fillText(options.level.text, left + 6, at > top + 16 ? at - 4 : at + 13);
    }
    context.restore();
  },
};

function chart(type, height, config) {
  const canvas = el("canvas", { role: "img", "aria-label": config.label });
  const box = el("div", { class: "plot", style: `height:${height}px` }, canvas);
  charts.push({ canvas, type, config, live: null });
  return box;
}

function axis(title, extra = {}) {
  return {
    title: { display: Boolean(title), text: title },
    grid: { color: css("--line"), borderColor: css("--line"), drawTicks: false },
    ticks: { padding: 6, maxRotation: 45, includeBounds: false, ...(extra.ticks || {}) },
    ...Object.fromEntries(Object.entries(extra).filter(([key]) => key !== "ticks")),
  };
}

const percentTicks = { callback: (v) => Number((100 * v).toFixed(2)) + " %" };
const ticksOf = (metric) => (metricInfo(metric).percent ? percentTicks : {});

// Charts are drawn once they are in the page, and again where the colour scheme changes.
function drawCharts() {
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  Chart.defaults.font.size = 12;
  Chart.defaults.color = css("--muted");
  Chart.defaults.animation = false;
  Chart.defaults.maintainAspectRatio = false;
  Chart.defaults.plugins.legend.labels.boxWidth = 12;
  Chart.defaults.plugins.legend.labels.boxHeight = 12;
  Chart.defaults.plugins.legend.align = "start";
  for (let i = charts.length - 1; i >= 0; --i) {
    const entry = charts[i];
    if (!entry.canvas.isConnected) {
      if (entry.live) entry.live.destroy();
      charts.splice(i, 1);
    }
  }
  for (const entry of charts) {
    if (entry.live) continue;
    const { data: sets, options } = entry.config.make();
    entry.live = new Chart(entry.canvas, { type: entry.type, data: sets, options,
      plugins: [whiskers, marks] });
  }
}

function redrawCharts() {
  for (const entry of charts) {
    if (entry.live) entry.live.destroy();
    entry.live = null;
  }
  drawCharts();
}
