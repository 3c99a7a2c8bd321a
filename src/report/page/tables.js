// Elements, numbers and sortable tables: what the sections of the page are made of.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const METRICS = {
  "top1": { title: "Top-1", up: true, percent: true },
  "top5": { title: "Top-5", up: true, percent: true },
  "agreement": { title: "Agreement with float", up: true, percent: true },
  "top1-change": { title: "Top-1 change", up: true, percent: true },
  "top5-change": { title: "Top-5 change", up: true, percent: true },
  "kl": { title: "KL to float", up: false },
  "cross-entropy": { title: "Cross-entropy", up: false },
  "cross-entropy-change": { title: "Cross-entropy change", up: false },
  "psnr": { title: "PSNR (dB)", up: true },
  "cosine": { title: "Cosine", up: true },
};
const metricInfo = (name) => METRICS[name] || { title: name, up: true };

function number(v, digits = 4) {
  if (v === null || v === undefined || Number.isNaN(v)) return "–";
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (size < 1e-4 || size >= 1e6) return v.toExponential(2);
  return String(Number(v.toPrecision(digits)));
}

function metricText(name, v) {
  if (v === null || v === undefined) return "–";
  return metricInfo(name).percent ? (100 * v).toFixed(1) + " %" : number(v);
}

function duration(s) {
  if (s === null || s === undefined) return "–";
  return s < 1 ? number(1000 * s, 3) + " ms" : number(s, 3) + " s";
}

// columns: {title, text: (row) => string, value: (row) => number|string, left, detail, wrap, fixed};
// fixed: stays in sight when the table is scrolled sideways, for the first column.
function sortableTable(columns, rows, options = {}) {
  const body = el("tbody");
  const state = { column: options.sort ?? -1, up: options.up ?? true, filter: "" };
  const classOf = (column) => [column.left ? "text" : "", column.wrap ? "wrap" : "",
    column.fixed ? "fixed" : ""].join(" ").trim() || undefined;
  const headers = columns.map((column, index) =>
    el("th", { class: classOf(column), scope: "col" },
      el("button", { type: "button", text: column.title, onclick: () => sortBy(index) })));
  function sortBy(index) {
    state.up = state.column === index ? !state.up : columns[index].firstUp ?? true;
    state.column = index;
    fill();
  }
  function ordered() {
    const shown = rows.filter((row) => !state.filter ||
      columns.some((c) => String(c.text(row)).toLowerCase().includes(state.filter)));
    if (state.column < 0) return shown;
    const value = columns[state.column].value;
    return shown.map((row, place) => [value(row), place, row]).sort((a, b) => {
      const missing = (v) => v === null || v === undefined || v === "" || Number.isNaN(v);
      if (missing(a[0]) || missing(b[0])) return missing(a[0]) - missing(b[0]) || a[1] - b[1];
      const number = typeof a[0] === "number" && typeof b[0] === "number";
      const order = number ? a[0] - b[0]
        : String(a[0]).localeCompare(String(b[0]), "en", { numeric: true });
      return (state.up ? order : -order) || a[1] - b[1];
    }).map((entry) => entry[2]);
  }
  function fill() {
    headers.forEach((header, index) => {
      if (index !== state.column) header.removeAttribute("aria-sort");
      else header.setAttribute("aria-sort", state.up ? "ascending" : "descending");
    });
    body.replaceChildren(...ordered().map((row) => {
      const line = el("tr", {
        class: [options.pick ? "pick" : "", options.rowClass ? options.rowClass(row) : ""]
          .join(" ").trim() || undefined,
      }, ...columns.map((column) => {
        const cell = el("td", {
          class: classOf(column), text: column.text(row),
        });
        const detail = column.detail ? column.detail(row) : "";
        if (detail) cell.append(" ", el("small", { text: detail }));
        return cell;
      }));
      if (options.pick) line.addEventListener("click", () => options.pick(row));
      return line;
    }));
  }
  fill();
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...headers)), body);
  return {
    node: el("div", { class: "scroll" + (rows.length > 16 ? " tall" : "") }, table),
    refresh: fill,
    filter(text) {
      state.filter = text.trim().toLowerCase();
      fill();
    },
  };
}

function choose(title, choices, current, onchange) {
  const select = el("select", { onchange: () => onchange(select.value) },
    ...choices.map(([value, text]) =>
      el("option", { value, selected: String(value) === String(current) ? "" : undefined, text })));
  return el("label", {}, el("span", { text: title }), select);
}

function section(title, note, ...children) {
  return el("section", {}, el("h2", { text: title }), el("p", { class: "note", text: note }),
    ...children);
}
