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
from onnx import TensorProto, helper, numpy_helper
from float_parity import SPREAD, UNIT, bound, run_ort
from octet_program import ROOT, SCRATCH, run_model, succeed

sys.path.append(str(ROOT / "bench" / "peers"))
from transformer_models import SHAPES, make_transformer  # noqa: E402

KINDS = [(shape, norm) for shape in ("tiny", "tiny_vit") for norm in ("operator", "chain")]
ROUNDING_OPERATORS = ("Softmax", "LayerNormalization", "Sqrt", "Erf")


def model_of(shape, norm):
    return make_transformer(SCRATCH / "models" / f"{shape}_{norm}.onnx", shape, norm)


def one_layer_for_three(path):
    """Attention as timm writes it: query, key and value from one linear layer, picked by Gather,
    both scaled before their product, and a mask behind it."""
    rng, tokens, heads, head = np.random.default_rng(3), 9, 2, 16
    nodes, weights = [], []

    def constant(name, array):
        weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(kind, name, *inputs, **attributes):
        nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    noise = rng.standard_normal((32, 96)).astype(np.float32) / 6
    x = op("Add", "qkv", op("MatMul", "qkv/MatMul", "input", constant("w", noise)),
           constant("bias", noise[0]))
    x = op("Reshape", "parts", x, constant("five", np.array([1, tokens, 3, heads, head])))
    x = op("Transpose", "first", x, perm=[2, 0, 3, 1, 4])
    q, k, v = (op("Gather", n, x, constant(f"{n}.i", np.array(i)), axis=0)
               for i, n in enumerate("qkv"))
    q = op("Mul", "q.scaled", q, constant("s", np.float32(0.5)))
    k = op("Mul", "k.scaled", op("Transpose", "kt", k, perm=[0, 1, 3, 2]), "s")
    mask = np.where(rng.random((1, 1, 1, tokens)) < 0.2, -1e4, 0).astype(np.float32)
    scores = op("Add", "masked", op("MatMul", "scores", q, k), constant("mask", mask))
    y = op("MatMul", "context", op("Softmax", "weights", scores, axis=-1), v)
    y = op("Reshape", "merged", op("Transpose", "rows", y, perm=[0, 2, 1, 3]),
           constant("three", np.array([1, tokens, 32])))
    y = op("MatMul", "output", y, constant("out", noise[:, :32] / 2))
    shape = [1, tokens, 32]
    graph = helper.make_graph(
        nodes, "attention", [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, shape)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


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

    def test_attention_in_int8(self):
        """matmul: all. Products of computed operands run on codes, heads where they lie, and give
        what ONNX Runtime makes of the same file; ranges of attention cost no accuracy here."""
        for shape, target in (("tiny", "octet"), ("tiny_vit", "octet"), ("tiny", "onnxruntime"),
                              ("tiny_vit", "tensorrt")):
            path, layers = model_of(shape, "operator"), SHAPES[shape].layers
            with tempfile.TemporaryDirectory() as folder:
                data, out, linear = (f"{folder}/{n}" for n in ("d.npy", "all.onnx", "weights.onnx"))
                np.save(data, samples(shape, 4))
                options = ("--data", data, "--allow-noise", "--recipe", "fast", "--target", target)
                succeed("quantize", path, *options, "--set", "matmul=all", "-o", out)
                succeed("quantize", path, *options, "-o", linear)
                succeed("verify", out, "--data", data)
                steps = succeed("bench", out, "--steps", "--seconds", "0.05", "--json")
                operators = [step["op"] for step in steps.json["rows"][0]["steps"]]
                self.assertEqual(operators.count("octet.QMatMul"), 2 * layers, operators)
                floats = {"MatMul", "octet.PermutedMatMul", "Transpose", "DequantizeLinear"}
                if target != "tensorrt":  # its biases are float behind the product
                    self.assertFalse(floats & set(operators), operators)
                inputs = {"input": samples(shape, 1)}
                int8 = run_model(out, inputs, folder, "--int8")["output"]
                fake = run_ort(out, inputs)["output"]
                spread = float(fake.max() - fake.min())
                self.assertLessEqual(float(np.abs(int8 - fake).max()) / spread, 8 / 255)
                real = run_ort(path, inputs)["output"]
                only_linear = run_model(linear, inputs, folder, "--int8")["output"]
                error = np.square(int8 - real).mean() / np.square(only_linear - real).mean()
                self.assertLess(float(error), 3)

    def test_one_layer_for_query_key_and_value(self):
        """Codes are picked, moved and scaled as codes; the mask joins in the product's own step."""
        with tempfile.TemporaryDirectory() as folder:
            path, out, data = (f"{folder}/{name}" for name in ("f.onnx", "q.onnx", "d.npy"))
            one_layer_for_three(path)
            np.save(data, samples("tiny_vit", 4))
            succeed("quantize", path, "--data", data, "--allow-noise", "--recipe", "fast",
                    "--target", "octet", "--set", "matmul=all", "-o", out)
            succeed("verify", out, "--data", data)
            steps = succeed("bench", out, "--steps", "--seconds", "0.05", "--json").json
            floats = [step["node"] for step in steps["rows"][0]["steps"]
                      if step["op"] in ("Add", "Mul", "MatMul", "Softmax", "DequantizeLinear")]
            self.assertEqual(floats, [])
            inputs = {"input": samples("tiny_vit", 1)}
            int8 = run_model(out, inputs, folder, "--int8")
            real = run_model(path, inputs, folder)
            (name,) = real
            noise = np.square(int8[name] - real[name]).mean() / np.square(real[name]).mean()
            # Quantizers of 8 bits at six places: 1/12 of a step of some 1/127 of the range each,
            # where the range is some four deviations.
            self.assertLess(float(noise), 6 / 12 * (4 / 127) ** 2 * 2)

    def test_smoothed_where_written_out(self):
        """Outlier channels of a normalization that exporters write out cost no accuracy: its last
        Mul, and the Add behind it, take the scaling."""
        plain = onnx.load(model_of("tiny_vit", "chain"))
        with tempfile.TemporaryDirectory() as folder:
            path, data = f"{folder}/outliers.onnx", f"{folder}/data.npy"
            np.save(data, samples("tiny_vit", 8))
            weights = {w.name: w for w in plain.graph.initializer}
            readers = {name: [n for n in plain.graph.node if name in n.input]
                       for n in plain.graph.node for name in n.output}

            def scale(name, factor, channels=(3, 17, 30)):
                array = numpy_helper.to_array(weights[name]).copy()
                array[list(channels)] *= factor
                weights[name].CopyFrom(numpy_helper.from_array(array, name))

            scaled = 0
            for mul in plain.graph.node:
                if not mul.name.endswith("/norm/Mul"):  # "norm/Mul" makes the model's result
                    continue
                (add,) = readers[mul.output[0]]
                layers = readers[add.output[0]]
                for node in (mul, add):
                    scale(next(name for name in node.input if name in weights), 60)
                for layer in layers:
                    scale(layer.input[1], 1 / 60)
                scaled += 1
            self.assertEqual(scaled, 2 * SHAPES["tiny_vit"].layers)
            onnx.save(plain, path)
            inputs, noise = {"input": samples("tiny_vit", 1)}, {}
            expected = run_ort(path, inputs)["output"]
            for smooth in ("off", "auto"):
                out = f"{folder}/{smooth}.onnx"
                report = succeed("quantize", path, "--data", data, "--allow-noise", "--set",
                                 f"smooth={smooth}", "--json", "-o", out).json
                noise[smooth] = float(np.square(run_ort(out, inputs)["output"] - expected).mean())
            applied = {row["group"] for row in report["smoothing"] if row["applied"]}
            self.assertGreaterEqual(len(applied), scaled)
            # Steps are up to 60 times as wide without smoothing: 3600 times the noise in the layers
            # that see the outliers; a tenth leaves much to what the others add.
            self.assertLess(noise["auto"], noise["off"] / 10)

    def test_why_nothing_was_smoothed(self):
        """Where no channels can be rescaled the report says the most frequent reason in a line."""
        with tempfile.TemporaryDirectory() as folder:
            path, out, data = (f"{folder}/{name}" for name in ("f.onnx", "q.onnx", "d.npy"))
            weight = np.random.default_rng(3).standard_normal((32, 32)).astype(np.float32)
            nodes, x = [], "input"
            for i in range(3):
                nodes.append(helper.make_node("MatMul", [x, "w"], [f"p{i}"], name=f"p{i}"))
                x = f"s{i}"
                nodes.append(helper.make_node("Sigmoid", [f"p{i}"], [x], name=x))
            ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 9, 32])]
                    for name in ("input", x)]
            graph = helper.make_graph(nodes, "g", *ends, [numpy_helper.from_array(weight, "w")])
            onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                                        ir_version=8), path)
            np.save(data, np.random.default_rng(4).random((4, 9, 32), np.float32))
            quantize = ("quantize", path, "--data", data, "--allow-noise", "-o", out, "--set")
            lines = succeed(*quantize, "smooth=auto").out.splitlines()
            said = [line for line in lines if line.startswith("nothing smoothed: ")]
            self.assertEqual(said, [
                "nothing smoothed: 's0' comes from Sigmoid 's0', which has no per-channel weights to "
                "take the scaling (2 of 3 inputs alike); all reasons: --all"])
            self.assertNotIn("nothing smoothed", succeed(*quantize, "smooth=off").out)

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
