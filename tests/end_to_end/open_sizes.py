"""Models with open sizes, and what preparation folds: what the commands say of them, and refuse."""

import unittest

import numpy as np
import onnx
from demo_model import fresh_folder
from octet_program import USAGE, run, succeed
from onnx import TensorProto, helper, numpy_helper

BENCH = ("--seconds", 0.01, "--threads", 1, "--json")


class Builder:
    def __init__(self):
        self.rng = np.random.default_rng(11)
        self.nodes, self.constants = [], []

    def weight(self, name, *shape):
        array = self.rng.standard_normal(shape).astype(np.float32) * np.float32(0.3)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def save(self, path, inputs, output):
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "open", infos, [result], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.save(model, str(path))
        return path


def detector(path):
    """Conv, Relu, ConvTranspose and a bias behind it, Conv; height and width are open."""
    b = Builder()
    x = b.op("Conv", ["x", b.weight("w1", 4, 3, 3, 3)], "first", pads=[1] * 4)
    x = b.op("Relu", [x], "relu")
    x = b.op("ConvTranspose", [x, b.weight("w2", 4, 5, 2, 2)], "up", strides=[2, 2])
    x = b.op("Add", [x, b.weight("b2", 1, 5, 1, 1)], "addb")
    x = b.op("Conv", [x, b.weight("w3", 2, 5, 1, 1)], "last")
    return b.save(path, {"x": ["N", 3, "H", "W"]}, x)


def joined(path):
    """x and k share batch and length."""
    b = Builder()
    x = b.op("Concat", ["x", "k"], "join", axis=2)
    x = b.op("MatMul", [x, b.weight("w", 5, 3)], "linear")
    return b.save(path, {"x": ["B", "S", 4], "k": ["B", "S", 1]}, x)


class OpenSizes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = fresh_folder("open_sizes")
        cls.model = detector(cls.folder / "detector.onnx")
        cls.joined = joined(cls.folder / "joined.onnx")
        data = cls.folder / "data.npy"
        np.save(data, np.random.default_rng(3).standard_normal((4, 3, 8, 8), np.float32))
        cls.data = ("--data", data)
        cls.quantized = cls.folder / "quantized.onnx"
        succeed("quantize", cls.model, *cls.data, "-o", cls.quantized)

    def refused(self, words, *arguments):
        result = run(*arguments)
        self.assertEqual(result.code, USAGE, f"{arguments}: {result.err}")
        for word in words:
            self.assertIn(word, result.err)

    def test_quantized_from_statistics(self):
        """The data say for which sizes to count; statistics do not, and no share is made up."""
        statistics = self.folder / "statistics.safetensors"
        succeed("calibrate", self.model, *self.data, "-o", statistics)
        quantize = ("quantize", self.model, "-o", self.folder / "q.onnx")
        for flags, share in (((*self.data,), 1.0), (("--stats", statistics), None)):
            report = succeed(*quantize, *flags, "--json").json
            self.assertEqual(report["macs_int8_fraction"], share)
            self.assertEqual(report["macs_uncounted"] == "", share is not None)
        text = succeed(*quantize, "--stats", statistics).out
        self.assertIn("multiply-adds not counted (open sizes: x: float32[1,3,H,W])", text)
        self.assertNotIn("% of the multiply-adds", text)

    def test_audit(self):
        audit = ("audit", self.quantized, "--target", "octet")
        text = succeed(*audit).out
        self.assertIn("open sizes: x: float32[1,3,H,W]: what depends on them is not counted", text)
        self.assertNotIn("%", text)
        report = succeed(*audit, "--json").json
        self.assertEqual(report["open_inputs"], ["x: float32[1,3,H,W]"])
        self.assertIsNone(report["int8_mac_fraction"])
        sized = (*audit, "--shape", "x=1x3x8x8")
        self.assertIn("100.0 % of the multiply-adds", succeed(*sized).out)
        report = succeed(*sized, "--json").json
        self.assertEqual((report["open_inputs"], report["int8_mac_fraction"]), ([], 1.0))

    def test_symbols(self):
        """A size holds wherever its symbol stands."""
        given = ("--shape", "x=2x7x4")
        self.assertEqual(succeed("inspect", self.joined, *given, "--json").json["macs"], 2 * 7 * 15)
        for flags in ((), ("--batch", 2)):
            report = succeed("bench", self.joined, *given, *flags, *BENCH).json
            self.assertEqual(report["macs"], 2 * 7 * 15)
        both = (*given, "--shape", "k=3x8x1")
        self.refused(("'B'", "3", "2", "'k'", "'x'"), "inspect", self.joined, *both)

    def test_shapes_refused(self):
        wanted = "expected NAME=1x3x224x224"
        for shape in ("x=1x3x8x8x", "=1x3x8x8", "x=", "x=1xx3", "x=1x3x-8x8", "1x3x8x8 "):
            self.refused((f"'{shape}'", wanted), "inspect", self.model, f"--shape={shape}")
        twice = ("--shape", "x=1x3x8x8", "--shape", "x=1x3x9x9")
        self.refused(("'x=1x3x9x9'", "before"), "inspect", self.model, *twice)
        unnamed = ("--shape", "1x3x8x8", "--shape", "x=1x3x9x9")
        self.refused(("'x'", "1x3x8x8", "1x3x9x9"), "inspect", self.model, *unnamed)
        batch = ("--batch", 4, "--shape", "x=2x3x8x8")
        self.refused(("batch is 4", "begins with 2"), "bench", self.model, *batch)
        succeed("bench", self.model, "--batch", 2, "--shape", "x=2x3x8x8", *BENCH)

    def test_rule_of_a_folded_node(self):
        """It has no effect, and that is said; a rule of no node at all is refused."""
        quantize = ("quantize", self.model, *self.data, "-o", self.folder / "r.onnx", "--json")
        warnings = succeed(*quantize, "--set", "layers.addb.skip=true").json["warnings"]
        self.assertIn("the rule 'addb' has no effect: Add 'addb' was folded into 'up'", warnings)
        self.assertEqual(succeed(*quantize, "--set", "layers.up.skip=true").json["warnings"], [])
        words = ("'adb' matches no node",)
        self.refused(words, *quantize, "--set", "layers.adb.skip=true")


if __name__ == "__main__":
    unittest.main()
