"""Writes the trained network as ONNX with the onnx helpers alone, its norms left in the graph.

torch.onnx would fold BatchNormalization into the convolutions; folding is Octet's own work and
belongs to the demo.

  export.py --weights weights.pt --out demo/model.onnx
"""

import argparse
import pathlib

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from draw import CLASSES
from network import SIDE, ConvNorm, DemoNet, Inverted, Residual, Separable

OPSET = 17


class GraphWriter:
    """Collects nodes and initializers; every method takes and returns value names."""

    def __init__(self):
        self.nodes, self.initializers = [], []

    def constant(self, name, tensor):
        """Adds an initializer, float32."""
        self.initializers.append(numpy_helper.from_array(tensor.detach().numpy(), name))
        return name

    def node(self, op, inputs, name, **attributes):
        """Adds a node whose only output bears the node's name."""
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def activation(self, kind, x, name):
        """Nothing, Relu, or ReLU6 as Clip with its bounds as inputs (opset 11 and later)."""
        if kind == "relu":
            return self.node("Relu", [x], f"{name}.relu")
        if kind == "relu6":
            return self.node("Clip", [x, "relu6.min", "relu6.max"], f"{name}.relu6")
        return x

    def conv_norm(self, block, x, name):
        conv, norm = block.conv, block.norm
        x = self.node(
            "Conv",
            [x, self.constant(f"{name}.conv.weight", conv.weight)],
            f"{name}.conv",
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            group=conv.groups,
            pads=2 * list(conv.padding),
            dilations=[1, 1],
        )
        statistics = [
            self.constant(f"{name}.norm.{part}", getattr(norm, part))
            for part in ("weight", "bias", "running_mean", "running_var")
        ]
        x = self.node("BatchNormalization", [x, *statistics], f"{name}.norm", epsilon=norm.eps)
        return self.activation(block.activation, x, name)

    def residual(self, block, x, name):
        beside = (
            x if block.shortcut is None else self.conv_norm(block.shortcut, x, f"{name}.shortcut")
        )
        y = self.conv_norm(
            block.conv2, self.conv_norm(block.conv1, x, f"{name}.conv1"), f"{name}.conv2"
        )
        return self.activation("relu", self.node("Add", [y, beside], f"{name}.add"), name)

    def separable(self, block, x, name):
        return self.conv_norm(
            block.pointwise,
            self.conv_norm(block.depthwise, x, f"{name}.depthwise"),
            f"{name}.pointwise",
        )

    def inverted(self, block, x, name):
        y = self.conv_norm(block.widen, x, f"{name}.widen")
        y = self.conv_norm(block.depthwise, y, f"{name}.depthwise")
        y = self.conv_norm(block.narrow, y, f"{name}.narrow")
        return self.node("Add", [x, y], f"{name}.add") if block.adds else y


def build_model(network):
    """The ONNX model of a network in evaluation mode; its batch dimension is the symbol N."""
    writer = GraphWriter()
    writer.constant("relu6.min", torch.tensor(0.0))
    writer.constant("relu6.max", torch.tensor(6.0))
    write = {
        ConvNorm: writer.conv_norm,
        Residual: writer.residual,
        Separable: writer.separable,
        Inverted: writer.inverted,
    }
    x = "input"
    for name, block in network.body.items():
        x = write[type(block)](block, x, name)
    x = writer.node("GlobalAveragePool", [x], "average")
    x = writer.node("Flatten", [x], "features", axis=1)
    classifier = network.classifier
    writer.node(
        "Gemm",
        [
            x,
            writer.constant("classifier.weight", classifier.weight),
            writer.constant("classifier.bias", classifier.bias),
        ],
        "logits",
        transB=1,
    )
    graph = helper.make_graph(
        writer.nodes,
        "octet_demo",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["N", classifier.out_features]
            )
        ],
        writer.initializers,
    )
    model = helper.make_model(
        graph,
        producer_name="octet tools/demo",
        ir_version=8,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    network = DemoNet(len(CLASSES))
    network.load_state_dict(torch.load(options.weights, weights_only=True))
    onnx.save(build_model(network.eval()), options.out)


if __name__ == "__main__":
    main()
