"""Octet's float run beside ONNX Runtime's, output by output, on generated and on real models.

The bound. Both compute the same float32 operators and differ only in the order of their sums. A sum
of K products, each rounding an independent half unit u = 2^-24 of a partial sum, is off by about
u * sqrt(K) of the size of its result (the K/2 partial sums that count, times sqrt(2) for two
programs that both round). Where each layer keeps the size of what passes (these nets are
normalised), the errors of the layers that a path crosses add up, at worst linearly, and an output
is allowed the sum over all Conv, Gemm and MatMul:

    max |octet - onnxruntime| / (max - min of the output) <= SPREAD * u * sum of sqrt(K)

SPREAD = 4: the largest of up to 10^5 outputs lies within 4.5 deviations, and a range is at least
two of them, which leaves 4 after rounding up. One missing bias or a wrong border is off by 10^3
times as much.
"""

import math
import tempfile
import unittest

import numpy as np
import onnx
import onnxruntime as ort
from image_data import PRESETS, read_image
from make_models import MODELS, make, smooth_images
from octet_program import SCRATCH, need_real, run_model, succeed

UNIT = 2.0**-24
SPREAD = 4


def reduction_length(node, shapes):
    """Products per output of a Conv, Gemm or MatMul with a constant second input; 0 for others."""
    shape = shapes.get(node.input[1]) if len(node.input) > 1 else None
    if shape is None:
        return 0
    if node.op_type == "Conv":
        return math.prod(shape[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return shape[1] if transposed else shape[0]
    return shape[-2] if node.op_type == "MatMul" else 0


def bound(path):
    graph = onnx.load(str(path), load_external_data=False).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return SPREAD * UNIT * sum(math.sqrt(reduction_length(n, shapes)) for n in graph.node)


def run_ort(path, inputs):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def random_input(name, batch):
    """(batch, ...) f32 for a generated model."""
    graph = onnx.load(str(SCRATCH / "models" / f"{name}.onnx")).graph
    shape = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim][1:]
    rng = np.random.default_rng(7)
    if len(shape) == 1:
        return rng.standard_normal((batch, *shape)).astype(np.float32)
    return smooth_images(rng, (batch, *shape))


class FloatParity(unittest.TestCase):
    def compare(self, path, inputs):
        """Requires every output of both programs to agree within the bound."""
        expected = run_ort(path, inputs)
        with tempfile.TemporaryDirectory() as folder:
            got = run_model(path, inputs, folder)
        self.assertEqual(sorted(got), sorted(expected), "outputs")
        limit = bound(path)
        for name, value in expected.items():
            self.assertEqual(got[name].shape, value.shape, name)
            self.assertEqual(got[name].dtype, value.dtype, name)
            spread = float(value.max() - value.min())
            worst = float(np.abs(got[name].astype(np.float64) - value).max()) / spread
            self.assertLessEqual(worst, limit, f"{path.name}: {name}: max difference over range")

    def test_real_mobilenet(self):
        real = need_real()
        files = sorted((real / "imagenet_200").glob("*.jpg"))[:4]
        images = np.stack([read_image(file, PRESETS["imagenet-tf"]) for file in files])
        self.compare(real / "mobilenet_v1_025_224.onnx", {"input": images})

    def test_real_face_detector(self):
        real = need_real()
        for file in sorted((real / "faces").glob("*.jpg"))[:2]:
            image = read_image(file, PRESETS["face-rfb"])[None]
            self.compare(real / "face_rfb_320.onnx", {"input": image})

    def test_real_image_loader(self):
        """`octet eval` on 200 photographs: reading, preprocessing and network give the known
        accuracy."""
        real = need_real()
        data = real / "imagenet_200"
        figures = succeed(
            *("eval", real / "mobilenet_v1_025_224.onnx", "--data", data),
            *("--preset", "imagenet-tf", "--metric", "top1,top5", "--json"),
        ).json
        self.assertAlmostEqual(figures["top1"], 0.590, delta=1e-9)
        self.assertAlmostEqual(figures["top5"], 0.845, delta=1e-9)


def parity_test(name, batch):
    def test(self):
        path = make([name], SCRATCH / "models")[name]
        self.compare(path, {"input": random_input(name, batch)})

    return test


for _name in MODELS:
    setattr(FloatParity, f"test_{_name}", parity_test(_name, 1 if _name == "resnet50" else 3))


if __name__ == "__main__":
    unittest.main()
