"""Judges demo/model.onnx on the committed JPEGs with ONNX Runtime: size, work, accuracy.

  check.py --demo demo

The INT8 figures are those of ONNX Runtime's quantize_static (QDQ, minimum-maximum, uint8
activations, weights per channel and per tensor), calibrated on the first rows of labels.csv: what
Octet's own are compared with.
"""

import argparse
import csv
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

from draw import CALIBRATION_COUNT


def read_set(folder):
    """Inputs (count,3,H,W) float32 after x/127.5 - 1, and labels."""
    with open(folder / "labels.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    pictures = [
        np.asarray(Image.open(folder / row["file"]).convert("RGB"), np.float32) for row in rows
    ]
    inputs = np.stack(pictures).transpose(0, 3, 1, 2) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(inputs), np.array([int(row["label"]) for row in rows])


def multiply_adds(model):
    """Multiply-adds of every Conv and Gemm for one picture."""
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [
            *onnx.shape_inference.infer_shapes(model).graph.value_info,
            *model.graph.output,
        ]
    }
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            total += int(np.prod(shapes[node.output[0]][2:]) * np.prod(weights[node.input[1]]))
    return total


def logits(path, inputs):
    """The model's outputs, one picture at a time on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": x[None]})[0] for x in inputs])


class Pictures(CalibrationDataReader):
    """Hands the calibration pictures over one by one."""

    def __init__(self, inputs):
        self.rest = iter(inputs)

    def get_next(self):
        x = next(self.rest, None)
        return None if x is None else {"input": x[None]}


def log_softmax(x):
    """Natural logarithm of the softmax along the last axis."""
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def report(name, output, labels, reference):
    """Prints top-1; against the float outputs, the agreement and the mean KL divergence (nats)."""
    top1 = np.mean(output.argmax(1) == labels)
    agreement = np.mean(output.argmax(1) == reference.argmax(1))
    p, q = log_softmax(reference.astype(np.float64)), log_softmax(output.astype(np.float64))
    divergence = np.mean((np.exp(p) * (p - q)).sum(1))
    print(f"{name:22s} top-1 {top1:.4f}  agreement {agreement:.4f}  KL {divergence:.5f}")


def main():
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=pathlib.Path, default=pathlib.Path("demo"))
    options = parser.parse_args()
    path = options.demo / "model.onnx"
    model = onnx.load(path)
    floats = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    jpegs = sum(file.stat().st_size for file in (options.demo / "images").glob("*.jpg"))
    print(
        f"model {path.stat().st_size} bytes, {floats} floats, "
        f"{multiply_adds(model)} multiply-adds; "
        f"pictures {jpegs} bytes"
    )

    inputs, labels = read_set(options.demo)
    calibration, judged, labels = (
        inputs[:CALIBRATION_COUNT],
        inputs[CALIBRATION_COUNT:],
        labels[CALIBRATION_COUNT:],
    )
    reference = logits(path, judged)
    report("float", reference, labels, reference)
    with tempfile.TemporaryDirectory() as scratch:
        ready, quantized = pathlib.Path(scratch, "ready.onnx"), pathlib.Path(scratch, "int8.onnx")
        quant_pre_process(str(path), str(ready))
        for name, per_channel in (("INT8 per channel", True), ("INT8 per tensor", False)):
            quantize_static(
                str(ready),
                str(quantized),
                Pictures(calibration),
                per_channel=per_channel,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            report(name, logits(quantized, judged), labels, reference)


if __name__ == "__main__":
    main()
