"""Transformers as exporters write them: the same numbers as ONNX Runtime's, quantized at the inputs
of every linear layer, the INT8 run equal to the fake one, and the chains fused.

The bound is float_parity's, with its operators: Softmax, LayerNorm and GELU keep the size of what
passes, and their few roundings each (GELU: 3 units of x) are added as if each were a sum of 16.
"""

import sys
import tempfile
import unittest

import numpy as np
import onnx
from float_parity import SPREAD, UNIT, bound, run_ort
from octet_program import ROOT, SCRATCH, run_model, succeed

sys.path.append(str(ROOT / "bench" / "peers"))
from transformer_models import SHAPES, make_transformer  # noqa: E402

KINDS = [(shape, norm) for shape in ("tiny", "tiny_vit") for norm in ("operator", "chain")]
ROUNDING_OPERATORS = ("Softmax", "LayerNormalization", "Sqrt", "Erf")


def model_of(shape, norm):
    return make_transformer(SCRATCH / "models" / f"{shape}_{norm}.onnx", shape, norm)


def samples(shape, count):
    rng = np.random.default_rng(11)
    size = (count, SHAPES[shape].tokens, SHAPES[shape].width)
    return rng.standard_normal(size).astype(np.float32)


class Transformers(unittest.TestCase):
    def test_float(self):
        for shape, norm in KINDS:
            path = model_of(shape, norm)
            inputs = {"input": samples(shape, 1)}
            expected = run_ort(path, inputs)["output"]
            with tempfile.TemporaryDirectory() as folder:
                got = run_model(path, inputs, folder)["output"]
            nodes = onnx.load(str(path)).graph.node
            rounding = sum(node.op_type in ROUNDING_OPERATORS for node in nodes)
            limit = bound(path) + SPREAD * UNIT * 4 * rounding
            worst = float(np.abs(got - expected).max()) / float(expected.max() - expected.min())
            self.assertLessEqual(worst, limit, f"{shape}, {norm}")

    def test_quantized(self):
        """Every linear layer runs in INT8, and what its INT8 run gives is what the file says."""
        for shape, norm in KINDS:
            path = model_of(shape, norm)
            with tempfile.TemporaryDirectory() as folder:
                data, out = f"{folder}/data.npy", f"{folder}/int8.onnx"
                np.save(data, samples(shape, 4))
                options = ("--data", data, "--allow-noise")
                succeed("quantize", path, *options, "--recipe", "fast", "-o", out)
                graph = onnx.load(out).graph
                makers = {output: node.op_type for node in graph.node for output in node.output}
                products = [node for node in graph.node if node.op_type == "MatMul"]
                layers = [node for node in products if "attention/MatMul" not in node.name]
                self.assertEqual(len(layers), 6 * SHAPES[shape].layers)
                for layer in layers:
                    kinds = {makers.get(name) for name in layer.input}
                    self.assertEqual(kinds, {"DequantizeLinear"}, layer.name)
                succeed("verify", out, "--data", data)
                int8 = run_model(out, {"input": samples(shape, 1)}, folder, "--int8")["output"]
                fake = run_ort(out, {"input": samples(shape, 1)})["output"]
                # Codes differ at ties only; behind them stand float operators: a few codes' worth.
                spread = float(fake.max() - fake.min())
                self.assertLessEqual(float(np.abs(int8 - fake).max()) / spread, 8 / 255)

    def test_fused(self):
        """One step each for GELU and for addition and LayerNorm, however they are written."""
        for shape, norm in (("tiny", "operator"), ("tiny_vit", "chain")):
            report = succeed("bench", model_of(shape, norm), "--steps", "--seconds", "0.05", "--json")
            operators = [step["op"] for step in report.json["rows"][0]["steps"]]
            layers = SHAPES[shape].layers
            self.assertEqual(operators.count("Gelu"), layers, operators)
            self.assertEqual(operators.count("octet.PermutedMatMul"), layers, operators)
            norms = operators.count("octet.Norm") + operators.count("LayerNormalization")
            self.assertEqual(norms, 2 * layers + SHAPES[shape].norm_first)
            self.assertFalse({"Erf", "Sqrt", "ReduceMean", "Add", "Softmax"} & set(operators), operators)


if __name__ == "__main__":
    unittest.main()
