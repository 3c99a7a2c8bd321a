"""Whole networks, Octet beside ONNX Runtime, in one run: float32 and INT8, 1 and 2 threads.

Each round times ONNX Runtime's float model, its own quantized model (quantize_static, per-channel,
MinMax) and Octet's file in it, then `octet bench` on the float and the quantized model; rounds
alternate, medians over all rounds are printed. What is compared is verified before: Octet's INT8
output and ONNX Runtime's on the same file must agree.

    python bench/peers/onnxruntime_models.py --octet build/release/octet mobilenet.onnx resnet50.onnx

Machines drift: read the ratios, not the milliseconds.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


def input_of(path):
    """Name and shape of the first input, open dimensions set to 1."""
    value = onnx.load(str(path), load_external_data=False).graph.input[0]
    return value.name, [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]


def smooth_samples(shape, count):
    """(count, ...) float32: low-frequency images, so that ranges are those of images."""
    rng = np.random.default_rng(3)
    c, h, w = shape[1:]
    coarse = rng.standard_normal((count, c, 8, 8)).astype(np.float32)
    rows = np.arange(h) * 8 // h
    columns = np.arange(w) * 8 // w
    detail = 0.2 * rng.standard_normal((count, c, h, w)).astype(np.float32)
    return coarse[:, :, rows][:, :, :, columns] + detail


class Reader(CalibrationDataReader):
    def __init__(self, name, samples):
        self.items = iter([{name: sample[None]} for sample in samples])

    def get_next(self):
        return next(self.items, None)


def quantize_with_ort(model, samples, folder):
    """ONNX Runtime's own INT8 file, as its documentation advises for CPUs."""
    name, _ = input_of(model)
    prepared, out = folder / "prepared.onnx", folder / "ort_int8.onnx"
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(out),
        Reader(name, samples),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return out


def octet(program, *arguments):
    """Standard output of one octet command."""
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def seconds_of(run, budget):
    """Median seconds of a call, over `budget` seconds after a warm-up of a fifth of that."""
    times = []
    end = time.perf_counter() + budget * 0.2
    while time.perf_counter() < end:
        run()
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def check_same(program, model, sample, folder):
    """Octet's INT8 output against ONNX Runtime's of the same file; returns max difference / range."""
    name, _ = input_of(model)
    np.save(folder / "x.npy", sample)
    files = json.loads(
        octet(program, "run", model, "--int8", "--input", f"{name}={folder / 'x.npy'}",
              "--output-dir", folder / "out", "--json")
    )
    ours = np.load(files[0]["file"])
    theirs = session(model, 1).run(None, {name: sample})[0]
    return float(np.abs(ours - theirs).max() / (theirs.max() - theirs.min()))


def measure(program, model, threads, rounds, budget, folder):
    """Median seconds by row name."""
    name, shape = input_of(model)
    samples = smooth_samples(shape, 8)
    np.save(folder / "calibration.npy", samples)
    ours = folder / "octet_int8.onnx"
    octet(program, "quantize", model, "--data", folder / "calibration.npy", "--recipe", "fast",
          "-o", ours)
    print(f"  INT8 outputs, octet against ONNX Runtime on octet's file: "
          f"{check_same(program, ours, samples[:1], folder):.4f} of the range")
    files = {
        "ort float32": model,
        "ort int8 (its own file)": quantize_with_ort(model, samples, folder),
        "ort int8 (octet's file)": ours,
    }
    sessions = {row: session(path, threads) for row, path in files.items()}
    times = {row: [] for row in (*files, "octet float32", "octet int8")}
    for _ in range(rounds):
        for row, peer in sessions.items():
            times[row].append(seconds_of(lambda p=peer: p.run(None, {name: samples[:1]}), budget))
        report = json.loads(
            octet(program, "bench", model, ours, "--threads", threads, "--seconds", budget, "--json")
        )
        for row in report["rows"]:
            times[f"octet {row['name']}"].append(row["median_s"])
    return {row: statistics.median(values) for row, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--octet", default="build/release/octet", type=pathlib.Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="per row and round")
    arguments = parser.parse_args()
    print(f"onnxruntime {ort.__version__}; {octet(arguments.octet, 'info').splitlines()[1]}")
    for model in arguments.models:
        for threads in arguments.threads:
            with tempfile.TemporaryDirectory() as folder:
                print(f"{model.name}, {threads} thread{'s' if threads > 1 else ''}, batch 1")
                times = measure(arguments.octet, model, threads, arguments.rounds,
                                arguments.seconds, pathlib.Path(folder))
            best = times["octet int8"]
            for row, value in times.items():
                print(f"  {row:26} {value * 1e3:9.3f} ms   octet int8 is {value / best:5.2f}x as fast")


if __name__ == "__main__":
    main()
