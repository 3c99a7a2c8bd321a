"""Linear layers (MatMul, then Add) of Octet's files in ONNX Runtime: they run in INT8 there, `octet
audit` says where they would not, and the codes are Octet's.

What ONNX Runtime makes of a file is read from its optimized model: QGemm, MatMulIntegerToFloat and
QLinearMatMul are INT8; a Gemm, or a MatMul of anything but two computed operands, is float. It makes
a Gemm of MatMul and Add before it looks for quantizers, and a Gemm with a float bias and a float
result stays float, and dequantizes its weights at every run.
"""

import itertools
import pathlib
import sys
import unittest

import numpy as np
import onnx
import onnxruntime as ort
from demo_model import fresh_folder
from octet_program import ROOT, run, succeed
from onnx import TensorProto, helper, numpy_helper
from qdq_in_ort import EQUAL_SHARE, MAX_DIFFERENCE, octet_codes, ort_codes

sys.path.append(str(ROOT / "bench" / "peers"))
from transformer_models import SHAPES, make_transformer  # noqa: E402

INT8 = ("QGemm", "MatMulIntegerToFloat", "QLinearMatMul")
WIDTHS = (64, 96, 32)


def two_layers(path, shape, function, bias_rank, bias_first=True):
    """x (*shape, 64) -> MatMul, Add -> function -> MatMul, Add -> Softmax."""
    rng = np.random.default_rng(5)
    nodes, initializers, x = [], [], "x"
    for i, (k, n) in enumerate(itertools.pairwise(WIDTHS)):
        weight = rng.standard_normal((k, n), np.float32) / np.float32(np.sqrt(k))
        bias = 0.3 * rng.standard_normal((1,) * (bias_rank - 1) + (n,), np.float32)
        initializers += [
            numpy_helper.from_array(weight, f"w{i}"),
            numpy_helper.from_array(bias.astype(np.float32), f"b{i}"),
        ]
        nodes.append(helper.make_node("MatMul", [x, f"w{i}"], [f"product{i}"], f"layer{i}"))
        operands = [f"b{i}", f"product{i}"] if bias_first else [f"product{i}", f"b{i}"]
        nodes.append(helper.make_node("Add", operands, [f"sum{i}"], f"add{i}"))
        x = f"sum{i}"
        if i == 0 and function:
            nodes.append(helper.make_node(function, [x], ["between"], "function"))
            x = "between"
    nodes.append(helper.make_node("Softmax", [x], ["y"], "softmax", axis=-1))
    graph = helper.make_graph(
        nodes,
        "two_layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*shape, WIDTHS[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*shape, WIDTHS[-1]])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def optimized_operators(path, folder):
    """What ONNX Runtime runs instead of the file's nodes."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(options.optimized_model_filepath).graph
    return [node.op_type for node in graph.node]


def kept_float(path):
    """Names of the layers that the audit says stay float."""
    report = run("audit", path, "--target", "onnxruntime", "--json").json
    return [f["node"] for f in report["findings"] if f["op"] in ("MatMul", "Gemm")]


class LinearLayers(unittest.TestCase):
    def quantize(self, model, samples, folder, *flags):
        np.save(folder / "data.npy", samples)
        out = folder / "int8.onnx"
        data = ("--data", folder / "data.npy", "--allow-noise", "--recipe", "fast")
        succeed("quantize", model, *data, *flags, "-o", out)
        onnx.checker.check_model(onnx.load(str(out)), full_check=True)
        succeed("verify", out, "--data", folder / "data.npy", "--samples", 2)
        return out

    def compare_codes(self, path, sample, folder):
        theirs, ours = ort_codes(path, sample, folder), octet_codes(path, sample, folder)
        total = different = 0
        for name, codes in theirs.items():
            distance = np.abs(ours[name].astype(np.int32) - codes.astype(np.int32))
            self.assertLessEqual(int(distance.max()), MAX_DIFFERENCE, f"{path}: codes of {name}")
            total += distance.size
            different += int(np.count_nonzero(distance))
        self.assertGreaterEqual(1 - different / total, EQUAL_SHARE, str(path))

    def test_layouts(self):
        """Matrices and stacks of them, open and known dimensions, biases of every shape that the
        exporters write, with a quantizer behind the first layer and without."""
        rng = np.random.default_rng(6)
        for shape in ((1,), ("batch",), (1, 7), ("batch", 7)):
            for function, bias_rank in itertools.product(("Relu", "Erf", None), (1, 2, 3)):
                if bias_rank > len(shape) + 1:
                    continue
                where = f"{shape} {function} bias of rank {bias_rank}"
                folder = fresh_folder("layouts")
                model = two_layers(folder / "m.onnx", shape, function, bias_rank, bias_rank != 2)
                samples = rng.standard_normal((8, *shape[1:], WIDTHS[0])).astype(np.float32)
                quantized = self.quantize(model, samples, folder)
                operators = optimized_operators(quantized, folder)
                self.assertEqual(sum(operators.count(op) for op in INT8), 2, f"{where}: {operators}")
                self.assertFalse({"Gemm", "MatMul"} & set(operators), f"{where}: {operators}")
                self.assertEqual(kept_float(quantized), [], where)
                self.compare_codes(quantized, {"x": samples[:1]}, folder)

    def test_audit(self):
        """A file with the float model's biases: the audit knows which layers become float."""
        rng = np.random.default_rng(7)
        for shape, bias_rank in (((1,), 1), ((1,), 2), ((1, 7), 1), ((1, 7), 2), (("batch", 7), 1)):
            for function in ("Relu", "Erf", None):
                folder = fresh_folder("audit")
                model = two_layers(folder / "m.onnx", shape, function, bias_rank)
                samples = rng.standard_normal((8, *shape[1:], WIDTHS[0])).astype(np.float32)
                path = self.quantize(model, samples, folder)
                quantized = onnx.load(str(path))
                biases = {t.name: t for t in onnx.load(str(model)).graph.initializer}
                for node in quantized.graph.node:
                    if node.op_type == "Add":
                        name = node.name.replace("add", "b")
                        node.input[0 if node.input[1].startswith("product") else 1] = name
                        quantized.graph.initializer.append(biases[name])
                onnx.save(quantized, str(path))
                operators = optimized_operators(path, folder)
                kept = kept_float(path)
                self.assertEqual(len(kept), operators.count("Gemm"), f"{shape} {bias_rank} {kept}")
                self.assertEqual(sum(operators.count(op) for op in INT8), 2 - len(kept), operators)
                # Biases of one dimension are quantized on the way where codes follow.
                if shape == (1,) and bias_rank == 1:
                    self.assertEqual(len(kept), 2 if function == "Erf" else 1)

    def test_transformers(self):
        for shape, norm in itertools.product(("tiny", "tiny_vit"), ("operator", "chain")):
            folder = fresh_folder(f"{shape}_{norm}")
            model = make_transformer(folder / "m.onnx", shape, norm)
            sizes = SHAPES[shape]
            rng = np.random.default_rng(8)
            samples = rng.standard_normal((4, sizes.tokens, sizes.width)).astype(np.float32)
            for target in ("onnxruntime", "octet"):
                quantized = self.quantize(model, samples, folder, "--target", target)
                self.compare_codes(quantized, {"input": samples[:1]}, folder)
                if target == "octet":
                    continue
                operators = optimized_operators(quantized, folder)
                layers = 6 * sizes.layers
                self.assertEqual(sum(operators.count(op) for op in INT8), layers, operators)
                self.assertNotIn("Gemm", operators)
                self.assertEqual([n for n in kept_float(quantized) if "attention/MatMul" not in n], [])


if __name__ == "__main__":
    unittest.main()
