"""Transformers of standard shapes as ONNX files, written the way PyTorch's exporter writes them.

Random weights of a sane size, no embeddings: the input is (1, tokens, width) float32. Linear layers
are MatMul and Add with the bias first, GELU is Div, Erf, Add, Mul, Mul, attention is Reshape,
Transpose, MatMul, Div, Softmax, MatMul. LayerNorm is the operator (operator set 17), or with
`--layer-norm chain` what exporters wrote before: ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div,
Mul, Add.

    python bench/peers/transformer_models.py build/models/bert_base.onnx
    python bench/peers/transformer_models.py --shape vit_small --layer-norm chain vit.onnx
"""

import argparse
import dataclasses
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclasses.dataclass
class Shape:
    layers: int
    width: int
    heads: int
    hidden: int
    tokens: int
    norm_first: bool  # ViT; BERT normalises behind the residual addition


SHAPES = {
    "bert_base": Shape(12, 768, 12, 3072, 128, False),
    "vit_small": Shape(12, 384, 6, 1536, 197, True),
    "tiny": Shape(2, 32, 2, 64, 10, False),
    "tiny_vit": Shape(2, 32, 2, 64, 9, True),
}


class Builder:
    def __init__(self, shape, chain, seed=1):
        self.shape, self.chain = shape, chain
        self.rng = np.random.default_rng(seed)
        self.nodes, self.initializers, self.scalars = [], [], {}

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def scalar(self, value):
        if value not in self.scalars:
            array = np.asarray(value, np.float32)
            self.scalars[value] = self.constant(f"scalar_{len(self.scalars)}", array)
        return self.scalars[value]

    def op(self, kind, name, *inputs, **attributes):
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, name, x, k, n):
        weight = self.rng.standard_normal((k, n), np.float32) / np.float32(np.sqrt(k))
        bias = 0.1 * self.rng.standard_normal(n, np.float32)
        y = self.op("MatMul", f"{name}/MatMul", x, self.constant(f"{name}.weight", weight))
        return self.op("Add", f"{name}/Add", self.constant(f"{name}.bias", bias), y)

    def layer_norm(self, name, x):
        width = self.shape.width
        gamma = 1 + 0.2 * self.rng.standard_normal(width, np.float32)
        beta = 0.1 * self.rng.standard_normal(width, np.float32)
        gamma = self.constant(f"{name}.weight", gamma.astype(np.float32))
        beta = self.constant(f"{name}.bias", beta.astype(np.float32))
        if not self.chain:
            return self.op("LayerNormalization", name, x, gamma, beta, axis=-1, epsilon=1e-12)
        mean = self.op("ReduceMean", f"{name}/ReduceMean", x, axes=[-1])
        centred = self.op("Sub", f"{name}/Sub", x, mean)
        square = self.op("Pow", f"{name}/Pow", centred, self.scalar(2.0))
        variance = self.op("ReduceMean", f"{name}/ReduceMean_1", square, axes=[-1])
        shifted = self.op("Add", f"{name}/Add", variance, self.scalar(1e-12))
        deviation = self.op("Sqrt", f"{name}/Sqrt", shifted)
        normal = self.op("Div", f"{name}/Div", centred, deviation)
        scaled = self.op("Mul", f"{name}/Mul", normal, gamma)
        return self.op("Add", f"{name}/Add_1", scaled, beta)

    def gelu(self, name, x):
        scaled = self.op("Div", f"{name}/Div", x, self.scalar(1.4142135381698608))
        erf = self.op("Erf", f"{name}/Erf", scaled)
        one = self.op("Add", f"{name}/Add", erf, self.scalar(1.0))
        product = self.op("Mul", f"{name}/Mul", x, one)
        return self.op("Mul", f"{name}/Mul_1", product, self.scalar(0.5))

    def attention(self, name, x):
        s = self.shape
        head = s.width // s.heads
        split = np.asarray([1, s.tokens, s.heads, head], np.int64)
        heads = {}
        for part in ("query", "key", "value"):
            y = self.linear(f"{name}/{part}", x, s.width, s.width)
            shape = self.constant(f"{name}/{part}/shape", split)
            y = self.op("Reshape", f"{name}/{part}/Reshape", y, shape)
            perm = [0, 2, 3, 1] if part == "key" else [0, 2, 1, 3]
            heads[part] = self.op("Transpose", f"{name}/{part}/Transpose", y, perm=perm)
        scores = self.op("MatMul", f"{name}/MatMul", heads["query"], heads["key"])
        scores = self.op("Div", f"{name}/Div", scores, self.scalar(float(np.sqrt(head))))
        weights = self.op("Softmax", f"{name}/Softmax", scores, axis=-1)
        context = self.op("MatMul", f"{name}/MatMul_1", weights, heads["value"])
        context = self.op("Transpose", f"{name}/Transpose", context, perm=[0, 2, 1, 3])
        merged = np.asarray([1, s.tokens, s.width], np.int64)
        shape = self.constant(f"{name}/merged", merged)
        context = self.op("Reshape", f"{name}/Reshape", context, shape)
        return self.linear(f"{name}/output", context, s.width, s.width)

    def feed_forward(self, name, x):
        s = self.shape
        y = self.gelu(f"{name}/gelu", self.linear(f"{name}/fc1", x, s.width, s.hidden))
        return self.linear(f"{name}/fc2", y, s.hidden, s.width)

    def layer(self, name, x):
        for part, block in (("attention", self.attention), ("mlp", self.feed_forward)):
            at = f"{name}/{part}"
            if self.shape.norm_first:
                y = block(at, self.layer_norm(f"{at}/norm", x))
                x = self.op("Add", f"{at}/residual", y, x)
            else:
                y = self.op("Add", f"{at}/residual", block(at, x), x)
                x = self.layer_norm(f"{at}/norm", y)
        return x

    def build(self):
        s = self.shape
        x = "input"
        for i in range(s.layers):
            x = self.layer(f"layer{i}", x)
        if s.norm_first:
            x = self.layer_norm("norm", x)
        self.op("Identity", "output", x)
        dims = [1, s.tokens, s.width]
        graph = helper.make_graph(
            self.nodes,
            "transformer",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, dims)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, dims)],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.checker.check_model(model)
        return model


def make_transformer(path, shape, layer_norm="operator"):
    """Writes the model; its path."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(Builder(SHAPES[shape], layer_norm == "chain").build(), str(path))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="bert_base")
    parser.add_argument("--layer-norm", choices=("operator", "chain"), default="operator")
    arguments = parser.parse_args()
    make_transformer(arguments.path, arguments.shape, arguments.layer_norm)


if __name__ == "__main__":
    main()
