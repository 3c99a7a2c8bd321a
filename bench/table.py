"""The tables of docs/benchmarks.md from `octet bench suite NAME --json > NAME.json`.

    python bench/table.py NAME.json ...

One line per operator: 1 thread, and in parentheses the most threads measured. A star: other
processes took cores in the samples of one of Octet's INT8 rows.
"""

import json
import math
import sys

CODES, FLOATS, NO_AMX = "u8 > u8", "f32 > f32", ", no AMX"
CONVERTED = "int8, conversions included"


def time_text(seconds):
    for limit, factor, digits, unit in ((1e-4, 1e6, 1, "µs"), (1e-3, 1e6, 0, "µs")):
        if seconds < limit:
            return f"{seconds * factor:.{digits}f} {unit}"
    return f"{seconds * 1e3:.2f} ms"


class Table:
    """The rows of one operator on one number of threads, by name and data."""

    def __init__(self, report):
        self.rows = {(r["name"], r["data"]): r for r in report["rows"] if "missing" not in r}

    def get(self, name, data):
        """Without a row of its own, the kernel that has no AMX anyway."""
        return self.rows.get((name, data)) or self.rows.get((name, data.removesuffix(NO_AMX)))

    def star(self):
        """Where the figures of one of Octet's rows are to be read with care."""
        return "*" if any(r["disturbed"] for r in self.rows.values()
                          if not r["peer"] and r["name"] != "float32") else ""

    def share(self, data):
        return f"{100 * self.get('int8', data)['peak_fraction']:.0f}"

    def ratio(self, name, data):
        ours, peer = self.get(name, data), self.get(f"onednn {name}", data)
        return peer["median_s"] / ours["median_s"]


def print_operators(suites):
    print("| | INT8 | of peak | oneDNN | no AMX: of peak | oneDNN | float in, out: our float32 | oneDNN |")
    print("|---|---|---|---|---|---|---|---|")
    ratios = {}
    for reports in suites:
        by_problem = {}
        for report in reports:
            if report["macs"] > 0:
                by_problem.setdefault(report["problem"], []).append(report)
        for problem, several in by_problem.items():
            tables = [Table(report) for report in (several[0], several[-1])]
            columns = (
                lambda t: time_text(t.get("int8", CODES)["median_s"]) + t.star(),
                lambda t: t.share(CODES),
                lambda t: f"{t.ratio('int8', CODES):.2f}",
                lambda t: t.share(CODES + NO_AMX),
                lambda t: f"{t.ratio('int8', CODES + NO_AMX):.2f}",
                lambda t: f"{t.get(CONVERTED, FLOATS)['times_float32']:.1f}",
                lambda t: f"{t.ratio(CONVERTED, FLOATS):.2f}",
            )
            cells = [f"{c(tables[0])} ({c(tables[1])})" for c in columns]
            print(f"| {problem} | " + " | ".join(cells) + " |")
            for report, table in zip((several[0], several[-1]), tables):
                for what, name, data in (
                    ("codes", "int8", CODES), ("codes, no AMX", "int8", CODES + NO_AMX),
                    ("float32 in and out", CONVERTED, FLOATS),
                ):
                    key = (what, report["threads"])
                    ratios.setdefault(key, []).append((table.ratio(name, data), problem))
    print("\n| as fast as oneDNN, geometric mean | threads | | worst | slower on |")
    print("|---|---|---|---|---|")
    for (what, threads), values in sorted(ratios.items()):
        mean = math.exp(sum(math.log(r) for r, _ in values) / len(values))
        worst, where = min(values)
        slower = sum(r < 1 for r, _ in values)
        print(f"| {what} | {threads} | {mean:.2f} | {worst:.2f} ({where}) | "
              f"{slower} of {len(values)} |")


def print_movers(suites):
    print("\n| | memcpy of as many bytes | Octet, a peer's time / Octet's |")
    print("|---|---|---|")
    for reports in suites:
        for report in reports:
            if report["macs"] > 0:
                continue
            rows = [r for r in report["rows"] if "missing" not in r]
            copy = next(r["median_s"] for r in rows if r["data"] == "copy")
            cells = [
                f"{r['name']} {time_text(r['median_s'])}"
                + (f" ({r['octet_speed']:.2f})" if "octet_speed" in r else "")
                for r in rows if r["data"] != "copy"
            ]
            print(f"| {report['problem']}, {report['threads']} threads | {time_text(copy)} | "
                  + ", ".join(cells) + " |")


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    suites = []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            suites.append(json.load(file))
    print_operators(suites)
    print_movers(suites)


if __name__ == "__main__":
    main()
