"""Makes the ONNX models of the tests: ResNet-18/50 and MobileNetV2 shapes, and small nets with one
idea each.

Weights are He-initialised from a fixed seed. BatchNormalization is left unfolded and gets the
statistics of what really reaches it (two smooth random images are carried along while the net is
built, one operator at a time, by ONNX Runtime), jittered per channel: so the variance of
activations stays sane through depth and the output depends on the input, as in a trained network.
"""

import argparse
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


def smooth_images(rng, shape):
    """Random blobs with a little noise, about unit variance: nearer to photographs than white
    noise."""
    coarse = rng.standard_normal(shape[:-2] + tuple(max(1, s // 16) for s in shape[-2:]))
    for axis in (-2, -1):
        coarse = np.repeat(coarse, -(-shape[axis] // coarse.shape[axis]), axis=axis)
    fine = coarse[..., : shape[-2], : shape[-1]] + 0.3 * rng.standard_normal(shape)
    return fine.astype(np.float32)


class Network:
    """An ONNX graph under construction, and the values its tensors take for the carried input."""

    def __init__(self, name, shape, seed):
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.shape = shape  # without the batch dimension
        self.nodes, self.initializers, self.constants = [], [], {}
        full = (2, *shape)
        image = smooth_images(self.rng, full) if len(shape) >= 2 else self.rng.standard_normal(full)
        self.values = {"input": image.astype(np.float32)}

    def constant(self, array):
        """Adds an initializer; its name."""
        name = f"{self.name}_w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        self.constants[name] = array
        return name

    def floats(self, array):
        return self.constant(np.asarray(array, np.float32))

    def op(self, kind, *inputs, **attributes):
        """Adds a node with one output, computes it for the carried input, and returns its name."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [output], name=output, **attributes)
        self.nodes.append(node)
        self.values[output] = self._compute(node)
        return output

    def _compute(self, node):
        feeds = {n: self.values[n] for n in node.input if n in self.values}
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in feeds.items()
        ]
        constants = [t for t in self.initializers if t.name in node.input]
        output = helper.make_empty_tensor_value_info(node.output[0])
        graph = helper.make_graph([node], "one", inputs, [output], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(model.SerializeToString(), options)
        return session.run(None, feeds)[0]

    def channels(self, x):
        return self.values[x].shape[1]

    def conv(self, x, out, kernel, stride=1, groups=1, bias=False, pads=None, **attributes):
        """He-initialised convolution; as many spatial dimensions as x has; 'same' padding by
        default."""
        spatial = self.values[x].ndim - 2
        fan_in = self.channels(x) // groups * kernel**spatial
        shape = (out, self.channels(x) // groups) + (kernel,) * spatial
        weight = self.rng.standard_normal(shape) * np.sqrt(2 / fan_in)
        inputs = [x, self.floats(weight)]
        if bias:
            inputs.append(self.floats(self.rng.standard_normal(out) * 0.1))
        pads = [kernel // 2] * (2 * spatial) if pads is None else pads
        sizes = {"kernel_shape": [kernel] * spatial, "strides": [stride] * spatial, "pads": pads}
        return self.op("Conv", *inputs, group=groups, **sizes, **attributes)

    def batch_norm(self, x, gain=1.0):
        """Normalises by the statistics of the carried value, with jitter; scale about `gain`."""
        value = self.values[x]
        axes = (0,) + tuple(range(2, value.ndim))
        count = value.shape[1]
        mean = value.mean(axes) + 0.1 * value.std(axes) * self.rng.standard_normal(count)
        variance = np.maximum(value.var(axes), 1e-3) * self.rng.uniform(0.8, 1.25, count)
        scale = gain * self.rng.uniform(0.6, 1.4, count)
        bias = 0.2 * self.rng.standard_normal(count)
        parameters = [self.floats(p) for p in (scale, bias, mean, variance)]
        return self.op("BatchNormalization", x, *parameters, epsilon=1e-5)

    def relu(self, x):
        return self.op("Relu", x)

    def relu6(self, x):
        return self.op("Clip", x, self.floats(0), self.floats(6))

    def linear(self, x, out):
        width = self.channels(x)
        weight = self.rng.standard_normal((out, width)) / np.sqrt(width)
        bias = self.rng.standard_normal(out) * 0.1
        return self.op("Gemm", x, self.floats(weight), self.floats(bias), transB=1)

    def classifier(self, x, classes):
        pooled = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.linear(pooled, classes)

    def model(self, *outputs):
        """The model, with dynamic batch 'N'; checked by onnx."""
        graph_outputs = []
        for name in outputs:
            value = self.values[name]
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            graph_outputs.append(helper.make_tensor_value_info(name, kind, ["N", *value.shape[1:]]))
        graph_input = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *self.shape])
        graph = helper.make_graph(
            self.nodes, self.name, [graph_input], graph_outputs, self.initializers
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, producer_name="octet tests", opset_imports=opsets)
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model


def conv_bn_relu(net, x, out, kernel, stride=1):
    return net.relu(net.batch_norm(net.conv(x, out, kernel, stride)))


def residual(net, x, branch, out, stride):
    """Relu(branch + shortcut), the shortcut projected where the shape changes (He et al. 2015)."""
    if stride != 1 or net.channels(x) != out:
        x = net.batch_norm(net.conv(x, out, 1, stride))
    return net.relu(net.op("Add", branch, x))


def basic_block(net, x, width, stride):
    branch = conv_bn_relu(net, x, width, 3, stride)
    branch = net.batch_norm(net.conv(branch, width, 3), gain=0.5)
    return residual(net, x, branch, width, stride)


def bottleneck(net, x, width, stride):
    branch = conv_bn_relu(net, x, width, 1)
    branch = conv_bn_relu(net, branch, width, 3, stride)
    branch = net.batch_norm(net.conv(branch, 4 * width, 1), gain=0.5)
    return residual(net, x, branch, 4 * width, stride)


def resnet(name, block, depths, seed, size=224, classes=1000):
    net = Network(name, (3, size, size), seed)
    x = conv_bn_relu(net, "input", 64, 7, 2)
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, depth in enumerate(depths):
        for i in range(depth):
            x = block(net, x, 64 << stage, 2 if i == 0 and stage > 0 else 1)
    return net.model(net.classifier(x, classes))


def resnet18():
    return resnet("resnet18", basic_block, (2, 2, 2, 2), seed=18)


def resnet50():
    return resnet("resnet50", bottleneck, (3, 4, 6, 3), seed=50)


def inverted_residual(net, x, out, stride, expand):
    width = net.channels(x) * expand
    y = x
    if expand != 1:
        y = net.relu6(net.batch_norm(net.conv(x, width, 1)))
    y = net.relu6(net.batch_norm(net.conv(y, width, 3, stride, groups=width)))
    y = net.batch_norm(net.conv(y, out, 1))
    return net.op("Add", x, y) if stride == 1 and net.channels(x) == out else y


def mobilenet_v2():
    """Sandler et al. 2018, table 2: (expansion, channels, repeats, stride)."""
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
    rows += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    net = Network("mobilenet_v2", (3, 224, 224), seed=2)
    x = net.relu6(net.batch_norm(net.conv("input", 32, 3, 2)))
    for expand, out, repeats, stride in rows:
        for i in range(repeats):
            x = inverted_residual(net, x, out, stride if i == 0 else 1, expand)
    x = net.relu6(net.batch_norm(net.conv(x, 1280, 1)))
    return net.model(net.classifier(x, 1000))


def mlp():
    """Gemm and MatMul + Add, which mean the same; Softmax at the end."""
    net = Network("mlp", (48,), seed=101)
    x = net.relu(net.linear("input", 96))
    weight = net.rng.standard_normal((96, 64)) * np.sqrt(2 / 96)
    x = net.op("MatMul", x, net.floats(weight))
    x = net.op("Add", x, net.floats(net.rng.standard_normal(64) * 0.1))
    return net.model(net.op("Softmax", net.linear(net.relu(x), 10), axis=1))


def grouped_conv():
    """Group counts 4 and 8, odd sizes, stride 2, dilation, and padding that differs per side."""
    net = Network("grouped_conv", (8, 19, 23), seed=102)
    x = net.relu(net.conv("input", 24, 3, groups=4, bias=True))
    x = net.relu(net.conv(x, 32, 3, stride=2, groups=8, bias=True, pads=[0, 1, 2, 1]))
    x = net.relu(net.conv(x, 32, 3, groups=32, bias=True, pads=[2, 2, 2, 2], dilations=[2, 2]))
    return net.model(net.classifier(x, 10), x)


def conv_1d():
    """Convolution and pooling over one axis."""
    net = Network("conv_1d", (6, 120), seed=103)
    x = net.relu(net.batch_norm(net.conv("input", 16, 5, stride=2)))
    x = net.op("MaxPool", x, kernel_shape=[2], strides=[2])
    x = net.relu(net.conv(x, 24, 3, bias=True))
    return net.model(net.classifier(x, 6))


def inception():
    """Branches joined by Concat: 1x1, 3x3, 5x5, average pool that leaves padding out of the
    count."""
    net = Network("inception", (3, 32, 32), seed=104)
    x = conv_bn_relu(net, "input", 24, 3)
    window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}
    for width in (8, 12):
        pooled = net.op("AveragePool", x, count_include_pad=0, **window)
        branches = [conv_bn_relu(net, x, width, kernel) for kernel in (1, 3, 5)]
        branches.append(conv_bn_relu(net, pooled, width, 1))
        x = net.op("Concat", *branches, axis=1)
        x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    return net.model(net.classifier(x, 10))


def residual_net():
    """Adds without Relu, after Relu and of one value with itself; a value with three consumers."""
    net = Network("residual_net", (4, 16, 16), seed=105)
    stem = conv_bn_relu(net, "input", 16, 3)
    y = net.op("Add", net.conv(stem, 16, 3, bias=True), stem)
    z = net.op("Add", net.conv(y, 16, 1, bias=True), net.op("Mul", stem, net.floats(0.5)))
    z = net.op("Add", net.relu(z), y)
    z = net.op("LeakyRelu", net.op("Add", z, z), alpha=0.1)
    return net.model(net.classifier(z, 10), y)


def silu(net, x):
    return net.op("Mul", x, net.op("Sigmoid", x))


def squeeze_excite(net, x, reduced):
    """The gate of EfficientNet's blocks: channels weighted by a small network of their means."""
    y = net.op("GlobalAveragePool", x)
    y = silu(net, net.conv(y, reduced, 1, bias=True))
    y = net.op("Sigmoid", net.conv(y, net.channels(x), 1, bias=True))
    return net.op("Mul", y, x)


def efficient():
    """Blocks of EfficientNet and MobileNetV3: SiLU, x HardSigmoid(x), squeeze and excitation, a
    mean written as ReduceMean; and a nearest Resize joined by Concat."""
    net = Network("efficient", (3, 64, 64), seed=106)
    x = silu(net, net.batch_norm(net.conv("input", 24, 3, 2)))
    for out, stride in ((24, 1), (40, 2)):
        y = silu(net, net.batch_norm(net.conv(x, 4 * net.channels(x), 1)))
        y = silu(net, net.batch_norm(net.conv(y, net.channels(y), 3, stride, groups=net.channels(y))))
        y = squeeze_excite(net, y, 8)
        y = net.batch_norm(net.conv(y, out, 1))
        x = net.op("Add", y, x) if stride == 1 else y
    small = net.batch_norm(net.conv(x, 32, 3, 2))
    small = net.op("Mul", small, net.op("HardSigmoid", small, alpha=1 / 6, beta=0.5))
    nothing = net.floats(np.zeros(0))
    wide = net.op("Resize", small, nothing, net.floats([1, 1, 2, 2]), mode="nearest",
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = conv_bn_relu(net, net.op("Concat", wide, x, axis=1), 48, 3)
    mean = net.op("ReduceMean", x, axes=[2, 3], keepdims=1)
    return net.model(net.linear(net.op("Flatten", mean), 10))


MODELS = {
    "efficient": efficient,
    "mlp": mlp,
    "grouped_conv": grouped_conv,
    "conv_1d": conv_1d,
    "inception": inception,
    "residual_net": residual_net,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "resnet50": resnet50,
}


def make(names, folder):
    """Writes the named models that are not there yet (or older than this file); their paths by
    name."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name in names:
        path = paths[name] = folder / f"{name}.onnx"
        if not path.exists() or path.stat().st_mtime < pathlib.Path(__file__).stat().st_mtime:
            partial = path.with_suffix(".partial")
            onnx.save(MODELS[name](), str(partial))
            partial.replace(path)
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", help="where the .onnx files go")
    parser.add_argument("names", nargs="*", help=f"which (default: all): {' '.join(MODELS)}")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in MODELS]
    if unknown:
        parser.error(f"unknown model {unknown[0]}; there are {' '.join(MODELS)}")
    for path in make(args.names or list(MODELS), args.folder).values():
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
