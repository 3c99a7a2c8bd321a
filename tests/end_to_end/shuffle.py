"""A network of ShuffleNet's blocks, with numbers added and multiplied between layers, stays INT8: a
Split, a shuffle and a Concat move codes, arithmetic with a number is a table or nothing, and all give
what the QDQ file says."""

import tempfile
import unittest

import numpy as np
import onnx
from float_parity import run_ort
from octet_program import SCRATCH, run_model, succeed
from onnx import TensorProto, helper, numpy_helper

MOVES = {"Split", "Concat", "Reshape", "Transpose", "MaxPool"}


class Builder:
    def __init__(self):
        self.rng = np.random.default_rng(9)
        self.nodes, self.initializers = [], []

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind, inputs, outputs, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def conv(self, name, x, channels, kernel, depthwise=False):
        fan = kernel * kernel * (1 if depthwise else channels[0])
        shape = (channels[1], 1 if depthwise else channels[0], kernel, kernel)
        weight = self.rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan))
        bias = (0.1 * self.rng.standard_normal(channels[1])).astype(np.float32)
        inputs = [x, self.constant(f"{name}.w", weight), self.constant(f"{name}.b", bias)]
        groups = channels[0] if depthwise else 1
        return self.op("Conv", inputs, [name], pads=[kernel // 2] * 4, group=groups)

    def number(self, name, kind, x, value):
        return self.op(kind, [x, self.constant(f"{name}.c", np.float32(value))], [name])

    def block(self, name, x):
        """(1, 16, 12, 12): half of the channels pass, the others go through three convolutions."""
        sizes = self.constant(f"{name}.sizes", np.asarray([8, 8], np.int64))
        passing, y = f"{name}.passing", f"{name}.worked"
        self.op("Split", [x, sizes], [passing, y], axis=1)
        y = self.op("Relu", [self.conv(f"{name}.a", y, (8, 8), 1)], [f"{name}.a.relu"])
        y = self.conv(f"{name}.b", y, (8, 8), 3, depthwise=True)
        y = self.op("Relu", [self.conv(f"{name}.c", y, (8, 8), 1)], [f"{name}.c.relu"])
        x = self.op("Concat", [passing, y], [f"{name}.joined"], axis=1)
        for i, shape in enumerate(((1, 2, 8, 144), (1, 16, 12, 12))):
            target = self.constant(f"{name}.shape{i}", np.asarray(shape, np.int64))
            x = self.op("Reshape", [x, target], [f"{name}.reshaped{i}"])
            if i == 0:
                x = self.op("Transpose", [x], [f"{name}.shuffled"], perm=[0, 2, 1, 3])
        return x


def model(path):
    b = Builder()
    x = b.op("Relu", [b.conv("stem", "input", (3, 16), 3)], ["stem.relu"])
    x = b.block("first", x)
    x = b.number("scaled", "Mul", b.conv("between", x, (16, 16), 1), 0.3)
    x = b.block("second", x)
    # Behind the convolution itself it would become a bias.
    x = b.op("Relu", [b.conv("behind", x, (16, 16), 1)], ["behind.relu"])
    x = b.number("shifted", "Add", x, 1.5)
    b.conv("output", x, (16, 4), 1)
    graph = helper.make_graph(
        b.nodes,
        "shuffle",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 4, 12, 12])],
        b.initializers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.checker.check_model(made)
    onnx.save(made, str(path))
    return path


class Shuffle(unittest.TestCase):
    def test_stays_int8(self):
        (SCRATCH / "models").mkdir(parents=True, exist_ok=True)
        path = model(SCRATCH / "models" / "shuffle.onnx")
        samples = np.random.default_rng(10).standard_normal((8, 3, 12, 12)).astype(np.float32)
        for target, float_arithmetic in (("octet", set()), ("onnxruntime", {"Mul", "Add"})):
            with tempfile.TemporaryDirectory() as folder:
                data, out = f"{folder}/data.npy", f"{folder}/int8.onnx"
                np.save(data, samples)
                succeed("quantize", path, "--data", data, "--allow-noise", "--recipe", "fast",
                        "--target", target, "-o", out)
                checked = succeed("verify", out, "--data", data, "--json").json
                self.assertEqual(sum(layer["unexplained"] for layer in checked["layers"]), 0)
                report = succeed("bench", out, "--steps", "--seconds", "0.02", "--json").json
                operators = [step["op"] for step in report["rows"][0]["steps"]]
                known = {"QuantizeLinear", "octet.QConv", "octet.QLookup", "reorder"}
                self.assertLessEqual(set(operators), known | MOVES | float_arithmetic, operators)
                self.assertEqual(operators.count("Split"), 2)
                # The input, and what float arithmetic has behind it.
                quantizers = 1 + len(float_arithmetic)
                self.assertEqual(operators.count("QuantizeLinear"), quantizers, operators)
                x = {"input": samples[:1]}
                int8 = run_model(out, x, folder, "--int8")["output"]
                fake = run_ort(out, x)["output"]
                # Codes differ at ties only: a few codes' worth behind them.
                spread = float(fake.max() - fake.min())
                self.assertLessEqual(float(np.abs(int8 - fake).max()) / spread, 8 / 255)


if __name__ == "__main__":
    unittest.main()
