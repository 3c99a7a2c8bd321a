"""ONNX Runtime's quantize_static beside Octet: what its calibrators reach on the same model and
rows.

For each calibrator (MinMax, Entropy, Percentile): per-channel weights, QDQ, uint8 activations, int8
weights, calibrated on the first rows of labels.csv and judged on the rest. Prints JSON; the result
is kept in --cache under a name that holds the hash of model, data and settings.
"""

import argparse
import contextlib
import hashlib
import json
import pathlib
import sys
import tempfile

import numpy as np
import onnxruntime as ort
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from image_data import PRESETS, read_rows  # noqa: E402
from metrics import compare_logits, top_k  # noqa: E402

METHODS = {
    "minmax": quantization.CalibrationMethod.MinMax,
    "entropy": quantization.CalibrationMethod.Entropy,
    "percentile": quantization.CalibrationMethod.Percentile,
}


class Reader(quantization.CalibrationDataReader):
    """Hands the calibration rows to quantize_static one by one."""

    def __init__(self, name, images):
        self._feeds = iter([{name: image[None]} for image in images])

    def get_next(self):
        return next(self._feeds, None)


def session(model, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def logits_of(model, images, threads):
    """Logits, row by row: (rows, classes) f32."""
    running = session(model, threads)
    name = running.get_inputs()[0].name
    rows = [running.run(None, {name: image[None]})[0].reshape(-1) for image in images]
    return np.stack(rows)


def quantize(model, images, method, folder, threads):
    """Writes ONNX Runtime's QDQ model of `model` and returns its path."""
    prepared = folder / "prepared.onnx"
    if not prepared.exists():
        # Folds BatchNormalization and infers shapes; symbolic shapes are not needed and want sympy.
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    out = folder / f"{method}.onnx"
    name = session(prepared, threads).get_inputs()[0].name
    with contextlib.redirect_stdout(sys.stderr):  # it prints its progress
        quantization.quantize_static(
            str(prepared),
            str(out),
            Reader(name, images),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            calibrate_method=METHODS[method],
        )
    return out


def measure(model, images, labels, calibration_rows, threads):
    """One record per calibrator, and the float model's own accuracy."""
    first, rest = images[:calibration_rows], images[calibration_rows:]
    rest_labels = labels[calibration_rows:]
    reference = logits_of(model, rest, threads)
    report = {
        "calibration_rows": len(first),
        "evaluation_rows": len(rest),
        "float": {
            "top1": top_k(reference, rest_labels, 1),
            "top5": top_k(reference, rest_labels, 5),
        },
    }
    with tempfile.TemporaryDirectory() as scratch:
        for method in METHODS:
            quantized = quantize(model, first, method, pathlib.Path(scratch), threads)
            logits = logits_of(quantized, rest, threads)
            report[method] = compare_logits(reference, logits, rest_labels)
    report["best_kl"] = min(report[method]["kl"] for method in METHODS)
    return report


def cache_name(model, data, settings):
    digest = hashlib.sha256(pathlib.Path(model).read_bytes())
    digest.update((pathlib.Path(data) / "labels.csv").read_bytes())
    digest.update(f"{ort.__version__} {settings}".encode())
    return f"ort_peers_{digest.hexdigest()[:16]}.json"


def peers(model, data, preset="imagenet-tf", calibration_rows=64, threads=1, cache=None):
    """The report of measure(), from the cache where it is there."""
    kept = cache and pathlib.Path(cache) / cache_name(model, data, (preset, calibration_rows))
    if kept and kept.exists():
        return json.loads(kept.read_text())
    images, labels = read_rows(data, PRESETS[preset])
    report = measure(model, images, labels, calibration_rows, threads)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(report, indent=1))
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="folder with labels.csv")
    parser.add_argument("--preset", default="imagenet-tf", choices=sorted(PRESETS))
    parser.add_argument("--calibration-rows", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", help="folder for finished reports, e.g. build/peers")
    args = parser.parse_args()
    report = peers(
        args.model, args.data, args.preset, args.calibration_rows, args.threads, args.cache
    )
    json.dump(report, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
