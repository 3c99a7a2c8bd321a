"""Models that ONNX Runtime's quantize_dynamic makes: every layer of them runs as one INT8 operator,
and gives what ONNX Runtime gives.

Codes and integer sums are exact in both, and the grid of a tensor is one float32 division in both.
What may differ is the last bit of a float sum (ONNX Runtime may fuse multiply and add), and, where
that lies at a tie, a code behind it: the bound is float_parity's plus one code of each layer.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import onnx
from float_parity import bound, run_ort
from make_models import make
from octet_program import PROGRAM, ROOT, SCRATCH, run_model, succeed
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

sys.path.append(str(ROOT / "bench" / "peers"))
from transformer_models import make_transformer  # noqa: E402

CODE = 1 / 255


def dynamic(path, per_channel):
    """ONNX Runtime's dynamic file of a model."""
    prepared = SCRATCH / "models" / f"{path.stem}_prepared.onnx"
    out = SCRATCH / "models" / f"{path.stem}_dynamic_{'channel' if per_channel else 'tensor'}.onnx"
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(str(prepared), str(out), weight_type=QuantType.QInt8, per_channel=per_channel)
    return out


def cases():
    """(float model, its layers' operator in Octet, per channel)"""
    for shape in ("tiny", "tiny_vit"):
        path = make_transformer(SCRATCH / "models" / f"{shape}_operator.onnx", shape)
        yield path, "octet.GridGemm", False
        yield path, "octet.GridGemm", True
    for name, path in make(["grouped_conv", "inception", "mlp"], SCRATCH / "models").items():
        yield path, "octet.GridGemm" if name == "mlp" else "octet.GridConv", False


class Dynamic(unittest.TestCase):
    def test_equal_to_onnxruntime(self):
        for path, layer, per_channel in cases():
            with self.subTest(model=path.stem, per_channel=per_channel), \
                    tempfile.TemporaryDirectory() as folder:
                model = dynamic(path, per_channel)
                graph = onnx.load(str(model)).graph
                integer = {"MatMulInteger", "ConvInteger"}
                layers = sum(node.op_type in integer for node in graph.node)
                self.assertGreater(layers, 0)
                report = succeed("bench", model, "--steps", "--seconds", "0.02", "--json")
                row = report.json["rows"][0]
                self.assertEqual(row["name"], "int8")
                operators = [step["op"] for step in row["steps"]]
                self.assertEqual(operators.count("octet.GridGemm") + operators.count("octet.GridConv"),
                                 layers, operators)
                self.assertIn(layer, operators)
                shape = [d.dim_value or 1 for d in graph.input[0].type.tensor_type.shape.dim]
                x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
                inputs = {graph.input[0].name: x}
                expected = run_ort(model, inputs)
                got = run_model(model, inputs, folder)
                limit = bound(path) + layers * CODE
                for name, want in expected.items():
                    spread = float(want.max() - want.min())
                    worst = float(np.abs(got[name] - want).max()) / spread
                    print(f"{model.stem}: {worst:.2g} of the range, at most {limit:.2g}")
                    self.assertLessEqual(worst, limit)

    def test_whole_network_peers(self):
        """bench/peers/onnxruntime_models.py takes any rank of input, and its ratios are of what it
        says."""
        models = [make_transformer(SCRATCH / "models" / "tiny_operator.onnx", "tiny")]
        models += make(["grouped_conv"], SCRATCH / "models").values()
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "report.json"
            command = [
                sys.executable, ROOT / "bench/peers/onnxruntime_models.py", "--octet", PROGRAM,
                "--threads", 1, "--rounds", 2, "--seconds", 0.01, "--json", report, *models,
            ]
            subprocess.run([str(c) for c in command], check=True, capture_output=True, timeout=300)
            entries = json.loads(report.read_text())
        self.assertEqual([entry["model"] for entry in entries], [path.stem for path in models])
        for entry in entries:
            seconds = entry["seconds"]
            roads = [row for row in seconds if row.startswith("ort int8")]
            self.assertEqual("ort int8 dynamic" in roads, entry["model"] == "tiny_operator")
            self.assertEqual(seconds[entry["fastest_ort"]], min(seconds[row] for row in roads))
            self.assertEqual(entry["ratio"], statistics.median(entry["ratios"]))
            expected = seconds["octet float32"] / seconds[entry["octet"]]
            self.assertAlmostEqual(entry["over_octet_float32"] / expected, 1, delta=1e-9)


if __name__ == "__main__":
    unittest.main()
