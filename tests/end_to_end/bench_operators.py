"""octet bench on single operators: what it prints adds up, and what it refuses it names."""

import json
import subprocess
import sys
import unittest

import numpy as np
import onnx
from demo_model import MODEL
from octet_program import BAD_FILE, IO_ERROR, PROGRAM, ROOT, SCRATCH, USAGE, run, succeed

QUICK = ("--threads", 1, "--seconds", 0.005)


class BenchOperators(unittest.TestCase):
    def table(self, *arguments):
        report = succeed("bench", *arguments, *QUICK, "--json").json
        self.assertEqual(len(report), 1)
        return report[0]

    def check_rows(self, report):
        """Rates, shares and ratios follow from the times."""
        self.assertEqual(report["threads"], 1)
        timed = [row for row in report["rows"] if "missing" not in row]
        best = {}
        for row in timed:
            if not row["peer"]:
                best[row["data"]] = min(best.get(row["data"], np.inf), row["median_s"])
        for row in timed:
            self.assertLessEqual(row["best_s"], row["median_s"])
            self.assertGreaterEqual(row["samples"], 7)
            self.assertTrue(row["kernel"])
            if report["macs"] > 0:
                rate = 2e-9 * report["macs"] / row["median_s"]
                self.assertAlmostEqual(row["rate"] / rate, 1, delta=1e-6)
            if "peak" in row:
                share = row["rate"] / report["peaks"][row["peak"]]
                self.assertAlmostEqual(row["peak_fraction"], share, delta=1e-6)
            if row["peer"] and row["data"] in best:
                speed = row["median_s"] / best[row["data"]]
                self.assertAlmostEqual(row["octet_speed"], speed, delta=1e-6 * speed)
        return {row["name"]: row for row in reversed(report["rows"])}  # of one name, the first

    def test_linear(self):
        report = self.table("linear", "7x33x65")
        self.assertEqual(report["problem"], "linear 7x33x65")
        self.assertEqual(report["macs"], 7 * 33 * 65)
        rows = self.check_rows(report)
        for name in (
            "float32", "int8", "int8, conversions included", "int8 dynamic, per token",
            "onednn int8", "int8 weights", "float8_e4m3fn weights",
        ):
            self.assertIn(name, rows)
        self.assertTrue(rows["int8"]["refused"])
        self.assertGreaterEqual(rows["int8"]["packed_bytes"], 33 * 65)

    def test_conv2d(self):
        report = self.table(
            "conv2d", "1x8x9x11", 16, "3x3", "--stride", "2", "--pad", "1x0", "--groups", 4,
            "--zero-point", 100,
        )
        self.assertEqual(
            report["problem"], "conv2d 1x8x9x11 16 3x3 stride=2 pad=1x0 groups=4 zero-point=100"
        )
        self.assertEqual(report["macs"], 5 * 5 * 16 * 2 * 9)
        self.check_rows(report)

    def test_bmm(self):
        report = self.table("bmm", "3x9x33x17")
        self.assertEqual(report["problem"], "bmm 3x9x33x17")
        self.assertEqual(report["macs"], 3 * 9 * 33 * 17)
        rows = self.check_rows(report)
        for name in ("float32", "int8", "int8 to float", "onednn int8", "onednn f32"):
            self.assertNotIn("missing", rows[name])

    def test_quantize(self):
        rows = self.check_rows(self.table("quantize", "1x5x6x7", "--no-peers"))
        self.assertIn("quantize to NHWC", rows)
        self.assertFalse(any(row["peer"] for row in rows.values()))

    def test_layernorm(self):
        rows = self.check_rows(self.table("layernorm", "9x77"))
        self.assertIn("dequantize, add, layernorm, quantize", rows)
        self.assertGreater(rows["layernorm"]["rate"], 0)

    def test_suite(self):
        report = succeed(
            "bench", "suite", "torch-int", "--only", "1x16x4", "--threads", "1,2", "--seconds",
            0.005, "--json",
        ).json
        self.assertEqual([r["threads"] for r in report], [1, 2])
        text = succeed("bench", "suite", "resnet50", "--only", "7x7 stride", *QUICK).out
        self.assertIn("geometric mean", text)

    def test_kernels_are_chosen_by_the_forced_level(self):
        report = succeed(
            "bench", "linear", "5x6x7", *QUICK, "--json", OCTET_FORCE_ISA="portable"
        ).json[0]
        rows = self.check_rows(report)
        self.assertEqual(report["isa"], "portable")
        self.assertIn("portable", rows["int8"]["kernel"])

    def test_refusals(self):
        for arguments, word in (
            (("bench",), "MODEL"),
            (("bench", "linear"), "MxKxN"),
            (("bench", "linear", "7x33"), "7x33"),
            (("bench", "linear", "7x33x0"), "7x33x0"),
            (("bench", "conv2d", "1x8x9x9", "8"), "KHxKW"),
            (("bench", "conv2d", "1x8x9x9", "8", "3x3", "--groups", "3"), "groups"),
            (("bench", "suite", "resnet"), "resnet50"),
            (("bench", "linear", "1x1x1", "--threads", "-1"), "threads"),
        ):
            result = run(*arguments)
            self.assertEqual(result.code, USAGE, f"{arguments}: {result.err}")
            self.assertIn(word, result.err + result.out)

    def test_help_shows_examples(self):
        for command in ("linear", "conv2d", "bmm", "quantize", "layernorm", "suite"):
            text = succeed("bench", command, "--help").out
            self.assertIn(f"octet bench {command} ", text)

    def script(self, *arguments):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_peers_of_other_processes(self):
        """bench/peers/operators.py compares like with like and checks the peers' results."""
        path = SCRATCH / "peers.json"
        text = self.script(
            "bench/peers/operators.py", "linear 5x32x16",
            "conv2d 1x8x9x9 8 3x3 stride=2 pad=1 groups=2 zero-point=9", "layernorm 4x32",
            "quantize 1x3x4x5", "--octet", PROGRAM, "--threads", 1, "--rounds", 1, "--seconds",
            0.01, "--json", path,
        )
        self.assertIn("geometric mean", text)
        rows = {row["row"]: row for row in json.loads(path.read_text(encoding="utf-8"))}
        for name in ("ort QLinearMatMul", "ort DynamicQuantizeMatMul", "ort QLinearConv",
                     "ort SkipLayerNormalization", "ort QuantizeLinear"):
            self.assertGreater(rows[name]["octet_speed"], 0, name)

    def test_tables_for_the_documentation(self):
        report = succeed("bench", "conv2d", "1x4x6x6", 8, "3x3", *QUICK, "--json")
        moved = succeed("bench", "quantize", "1x4x6x6", *QUICK, "--json")
        paths = [SCRATCH / "operator.json", SCRATCH / "moved.json"]
        for path, result in zip(paths, (report, moved)):
            path.write_text(result.out, encoding="utf-8")
        text = self.script("bench/table.py", *paths)
        self.assertIn("| conv2d 1x4x6x6 8 3x3 |", text)
        self.assertIn("quantize to NHWC", text)

    def test_models_are_still_timed(self):
        report = succeed("bench", MODEL, *QUICK, "--json").json
        self.assertEqual([row["name"] for row in report["rows"]], ["float32"])
        missing = run("bench", "no-such-model.onnx")
        self.assertIn(missing.code, (BAD_FILE, IO_ERROR))
        # A file named like a subcommand is reached by its folder.
        named = SCRATCH / "linear"
        onnx.save(onnx.load(MODEL), named)
        succeed("bench", named, *QUICK)


if __name__ == "__main__":
    unittest.main()
