"""octet report, looked at as people do: in a browser, phone-wide and desk-wide, light and dark."""

import functools
import html
import json
import re
import shutil
import subprocess
import tempfile
import unittest

from demo_model import DATA, MODEL, PRESET, fresh_folder, quantized
from octet_program import BAD_FILE, run, succeed

SWEEP = f"""
name: "<b>R&D</b> </script>"
models: [{{path: {MODEL}, name: demo}}]
data:
  path: {DATA}
  preset: imagenet-tf
  calibration: {{samples: 8}}
  evaluation: {{skip: 64, samples: 16}}
analyze: 2
bench: 0.02
base: naive
points: [{{layers.nowhere.skip: true, bias_correction: none}}]
cost: {{estimator: {{minmax: 1, mse: 2, entropy: 3}}}}
blocks:
  - name: ranges
    grid: {{estimator: [minmax, mse, entropy], weight_granularity: [tensor, channel], bias_correction: none}}
  - name: alpha
    base: {{smooth: on}}
    grid: {{alpha: [0.2, 0.5, 0.8], bias_correction: none}}
  - points: [{{preset: default, bias_correction: none}}]
"""

# Runs in the page before anything of it: what goes wrong is kept.
WATCH = """<script>
window.faults = [];
addEventListener("error", (e) => faults.push(String(e.message)));
addEventListener("unhandledrejection", (e) => faults.push(String(e.reason)));
for (const level of ["error", "warn"]) console[level] = (...a) => faults.push(a.join(" "));
</script>"""

# Runs behind it: clicks as a reader does and says what is to be seen.
PROBE = """<script>{
const column = (table, title) => {
  const heads = [...table.querySelectorAll("thead button")];
  const at = heads.findIndex((b) => b.textContent === title);
  heads[at].click();
  return [...table.querySelectorAll("tbody tr")].map((r) => r.cells[at].firstChild.textContent);
};
const headings = () => [...document.querySelectorAll("h2")].map((h) => h.textContent);
const seen = {
  state: document.documentElement.dataset.state,
  title: document.title,
  width: innerWidth, content: document.documentElement.scrollWidth,
  background: getComputedStyle(document.body).backgroundColor,
  sections: headings(),
};
const costs = () => [...document.querySelectorAll("select")]
  .find((s) => [...s.options].some((o) => o.value === "cost"));
for (const cost of costs() ? ["cost", "latency_s"] : []) {
  costs().value = cost;
  costs().dispatchEvent(new Event("change"));
  seen[cost] = headings();
}
const points = document.querySelector("#points table");
if (points) {
  seen.columns = [...points.querySelectorAll("thead button")].map((b) => b.textContent);
  seen.common = document.querySelector("#common").textContent;
  seen.up = column(points, "KL to float");
  seen.down = column(points, "KL to float");
  const rows = [...points.querySelectorAll("tbody tr.done")];
  rows[rows.length - 2].click();
  seen.detail = document.querySelector("#detail h2").textContent;
  const filter = document.querySelector("input[type=search]");
  filter.value = "entropy";
  filter.dispatchEvent(new Event("input"));
  seen.filtered = points.querySelectorAll("tbody tr").length;
}
const layers = document.querySelector("#layers table");
if (layers) {
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  seen.sqnr = column(layers, "SQNR alone (dB)");
}
seen.charts = [...document.querySelectorAll("canvas")].map((c) => {
  const shown = Chart.getChart(c);
  const pixels = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  return Boolean(shown) && c.clientWidth <= innerWidth && pixels.some((v) => v !== 0);
});
seen.opened = document.documentElement.scrollWidth;
seen.faults = faults;
parent.postMessage(JSON.stringify(seen), "*");
}</script>"""

# Holds the page in a frame: a window is never narrower than 500 pixels.
FRAME = """<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<script>
addEventListener("message", (e) => {
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = e.data;
  document.body.append(out);
});
</script>
<body><iframe src="%s" width="%d" height="900" style="border: 0"></iframe></body>"""


@functools.cache
def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise unittest.SkipTest("no Chromium here (tools/setup test installs it)")


def look(page, width=1400, dark=False):
    """What PROBE saw in a window of this width."""
    text = page.read_text(encoding="utf-8")
    probed = page.with_name(f"probed_{page.name}")
    text = text.replace("<head>", "<head>" + WATCH, 1)
    probed.write_text(PROBE.join(text.rsplit("</body>", 1)), encoding="utf-8")
    frame = page.with_name(f"frame_{page.name}")
    frame.write_text(FRAME % (probed.name, width), encoding="utf-8")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser(),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                f"--blink-settings=preferredColorScheme={0 if dark else 1}",
                "--window-size=1600,1000",
                "--virtual-time-budget=5000",
                "--host-resolver-rules=MAP * ~NOTFOUND",
                "--enable-logging=stderr",
                "--dump-dom",
                f"file://{frame}",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    if not found:
        raise AssertionError(f"the page did not get to its end\n{done.stderr[-2000:]}")
    seen = json.loads(html.unescape(found.group(1)))
    seen["console"] = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return seen


@functools.cache
def sweep_page():
    folder = fresh_folder("report_sweep")
    (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    succeed("sweep", folder / "sweep.yaml", "-o", folder)
    page = folder / "report.html"
    succeed("report", folder, "-o", page)
    return page


def page_of(name, result):
    folder = fresh_folder(f"report_{name}")
    (folder / f"{name}.json").write_text(result, encoding="utf-8")
    succeed("report", folder / f"{name}.json", "-o", folder / "report.html")
    return folder / "report.html"


class Report(unittest.TestCase):
    def check(self, seen, width):
        self.assertEqual(seen["state"], "ready")
        self.assertEqual(seen["faults"] + seen["console"], [])
        self.assertEqual(seen["width"], width)
        self.assertLessEqual(seen["content"], width, "the page scrolls sideways")
        self.assertLessEqual(seen["opened"], width, "the page scrolls sideways when opened")
        self.assertTrue(all(seen["charts"]), "a chart is empty or too wide")

    def test_self_contained(self):
        """Nothing is fetched: no address in an attribute, a style or a call."""
        text = sweep_page().read_text(encoding="utf-8")
        self.assertNotRegex(text, r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""")
        self.assertNotRegex(text, r"@import|\bfetch\(|XMLHttpRequest|url\(\s*['\"]?http")
        self.assertEqual(text.count("</script>"), 3, "data cannot close a script")
        self.assertLess(len(text), 3_000_000)

    def test_sweep(self):
        backgrounds = set()
        for width, dark in ((390, False), (390, True), (1400, False), (1400, True)):
            seen = look(sweep_page(), width, dark)
            self.check(seen, width)
            backgrounds.add(seen["background"])
            self.assertEqual(seen["title"], "<b>R&D</b> </script>")
            headings = " | ".join(seen["sections"])
            for word in ("Points", "against α", "over estimator", "Ranking", "latency", "Layers",
                         "Activations"):
                self.assertIn(word, headings)
            figures = [float(text) for text in seen["up"] if text != "–"]
            self.assertEqual(len(figures), 11)
            self.assertEqual(len(seen["up"]), 12, "the failed point is listed")
            self.assertEqual(figures, sorted(figures))
            self.assertEqual(seen["up"][-1], "–", "what has no figure comes last")
            falling = [float(text) for text in seen["down"] if text != "–"]
            self.assertEqual(falling, sorted(figures, reverse=True))
            self.assertEqual(seen["filtered"], 2)
            self.assertEqual(seen["common"], "In all points: bias_correction = none")
            self.assertNotIn("bias_correction", seen["columns"])
            self.assertEqual(seen["columns"][0], "Point")
            self.assertIn("Top-1 against cost", seen["cost"])
            self.assertIn("Top-1 against latency", seen["latency_s"])
            self.assertIn("Cost", seen["columns"])
            if width > 600:  # figures before settings
                place = seen["columns"].index
                self.assertLess(place("KL to float"), place("estimator"))
                self.assertLess(place("Latency"), place("weight_granularity"))
            self.assertTrue(seen["detail"].startswith("Point: "))
            self.assertGreater(len(seen["sqnr"]), 10)
        self.assertEqual(len(backgrounds), 2, "light and dark look different")

    def test_analyze(self):
        data = ("--data", DATA, *PRESET, "--samples", 4)
        result = succeed("analyze", MODEL, quantized(), *data, "--json").out
        page = page_of("analyze", result)
        for width in (390, 1400):
            seen = look(page, width)
            self.check(seen, width)
            self.assertIn("Layers", seen["sections"])
            figures = [float(text) for text in seen["sqnr"]]
            self.assertEqual(figures, sorted(figures))
            self.assertEqual(len(figures), len(json.loads(result)["layers"]))

    def test_quantize(self):
        data = ("--data", DATA, *PRESET, "--samples", 8)
        out = fresh_folder("report_quantized") / "q.onnx"
        page = page_of("quantize", succeed("quantize", MODEL, *data, "-o", out, "--json", "--views").out)
        for width in (390, 1400):
            seen = look(page, width)
            self.check(seen, width)
            self.assertIn("Smoothing by group", seen["sections"])
            self.assertIn("Activations", seen["sections"])

    def test_manifest(self):
        import onnx

        metadata = {p.key: p.value for p in onnx.load(str(quantized())).metadata_props}
        page = page_of("manifest", metadata["octet.manifest"])
        self.check(look(page), 1400)

    def test_wrong_files(self):
        folder = fresh_folder("report_wrong")
        for name, text in (("a.json", "{"), ("b.json", "{}"), ("c.json", "[1]"), ("d.txt", "hello")):
            (folder / name).write_text(text, encoding="utf-8")
            result = run("report", folder / name, "-o", folder / "r.html")
            self.assertEqual(result.code, BAD_FILE, name)
            self.assertIn(name, result.err)
        self.assertFalse((folder / "r.html").exists())


if __name__ == "__main__":
    unittest.main()
