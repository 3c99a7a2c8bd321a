"""Whole networks, Octet beside ONNX Runtime, in one run: float32 and INT8, 1 and 2 threads.

ONNX Runtime takes every road its own tools offer to INT8 on a CPU:
  dynamic     quantize_dynamic of the constant operands of MatMul (of convolutions, with --dynamic-conv)
  qdq         quantize_static, Q/DQ laid out its way, uint8 x int8, per channel, MinMax
  qoperator   the same as QLinear operators
Octet runs what `octet quantize --recipe fast` makes, the same with `matmul: all` (products of two
computed operands in INT8, too) where there are any, and ONNX Runtime's dynamic file as it is.

Rounds alternate; the median and the best round of each row are printed, and Octet's best INT8
against the fastest of ONNX Runtime's: by rounds, and best round against best round, which is what
to read where other processes come and go. What is compared is verified before: Octet's output and ONNX Runtime's on the same
file must agree to a share of the output's range.

    python bench/peers/onnxruntime_models.py --octet build/release/octet mobilenet.onnx bert.onnx

Machines drift: read the ratios, not the milliseconds.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

# Outputs of one file in two runtimes: codes may differ by one at ties, and what follows spreads it.
AGREES = 0.05


def input_of(path):
    """Name and shape of the first input, open dimensions set to 1."""
    value = onnx.load(str(path), load_external_data=False).graph.input[0]
    return value.name, [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]


def multiplies_computed(path):
    """Whether there is a MatMul of two computed operands."""
    graph = onnx.load(str(path), load_external_data=False).graph
    known = {tensor.name for tensor in graph.initializer}
    return any(node.op_type == "MatMul" and not known & set(node.input) for node in graph.node)


def samples_of(shape, count):
    """(count, ...) float32: low-frequency images, so that ranges are those of images; other ranks
    get what a normalised embedding looks like."""
    rng = np.random.default_rng(3)
    if len(shape) != 4:
        return rng.standard_normal((count, *shape[1:])).astype(np.float32)
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


def quantize_with_ort(model, samples, folder, dynamic_conv):
    """ONNX Runtime's own INT8 files by road, as its documentation advises for CPUs."""
    name, _ = input_of(model)
    prepared = folder / "prepared.onnx"
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    kinds = {node.op_type for node in onnx.load(str(prepared)).graph.node}
    files = {}
    if dynamic_conv or "Conv" not in kinds:
        files["dynamic"] = folder / "ort_dynamic.onnx"
        quantize_dynamic(str(prepared), str(files["dynamic"]), weight_type=QuantType.QInt8)
    for road in ("qdq", "qoperator"):
        files[road] = folder / f"ort_{road}.onnx"
        quantize_static(
            str(prepared),
            str(files[road]),
            Reader(name, samples),
            quant_format=QuantFormat.QDQ if road == "qdq" else QuantFormat.QOperator,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # In a transformer, everything but the linear layers is faster in float.
            op_types_to_quantize=None if "Conv" in kinds else ["MatMul", "Gemm"],
            extra_options={"MatMulConstBOnly": True},
        )
    return files


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


def difference(program, model, sample, folder):
    """Octet's INT8 output against ONNX Runtime's of the same file: max difference / range."""
    name, _ = input_of(model)
    np.save(folder / "x.npy", sample)
    files = json.loads(
        octet(program, "run", model, "--int8", "--input", f"{name}={folder / 'x.npy'}",
              "--output-dir", folder / "out", "--json")
    )
    ours = np.load(files[0]["file"])
    theirs = session(model, 1).run(None, {name: sample})[0]
    return float(np.abs(ours - theirs).max() / (theirs.max() - theirs.min()))


def octet_seconds(program, path, threads, budget):
    report = json.loads(
        octet(program, "bench", path, "--threads", threads, "--seconds", budget, "--json")
    )
    return report["rows"][0]["median_s"]


class Contest:
    """One network: the files, and who runs them."""

    def __init__(self, arguments, model, folder):
        self.program, self.folder = arguments.octet, folder
        name, shape = input_of(model)
        self.samples = samples_of(shape, 8)
        self.feed = {name: self.samples[:1]}
        np.save(folder / "calibration.npy", self.samples)
        own = folder / "octet_int8.onnx"
        octet(self.program, "quantize", model, "--data", folder / "calibration.npy", "--recipe",
              "fast", "--allow-noise", "-o", own)
        every = folder / "octet_int8_all.onnx"
        if multiplies_computed(model):
            octet(self.program, "quantize", model, "--data", folder / "calibration.npy", "--recipe",
                  "fast", "--set", "matmul=all", "--allow-noise", "-o", every)
        roads = quantize_with_ort(model, self.samples, folder, arguments.dynamic_conv)
        self.theirs = {"ort float32": model}
        self.theirs.update({f"ort int8 {road}": path for road, path in roads.items()})
        self.theirs["ort int8 octet's file"] = own
        self.ours = {"octet float32": model, "octet int8": own}
        if every.exists():
            self.ours["octet int8 matmul: all"] = every
        if "dynamic" in roads:
            self.ours["octet int8 ort's dynamic file"] = roads["dynamic"]

    def verify(self):
        """Exits where the two runtimes do not compute the same."""
        for row, path in self.ours.items():
            far = difference(self.program, path, self.samples[:1], self.folder)
            print(f"  {row}: differs from ONNX Runtime on the same file by {far:.2g} of the range")
            if not far <= AGREES:
                sys.exit(f"{row}: expected at most {AGREES}")

    def measure(self, threads, rounds, budget):
        """Seconds by row name, one per round."""
        sessions = {row: session(path, threads) for row, path in self.theirs.items()}
        times = {row: [] for row in (*self.theirs, *self.ours)}
        for _ in range(rounds):
            for row, peer in sessions.items():
                times[row].append(seconds_of(lambda p=peer: p.run(None, self.feed), budget))
            for row, path in self.ours.items():
                times[row].append(octet_seconds(self.program, path, threads, budget))
        return times


def best(times, prefix):
    """The row of that prefix with the least median."""
    rows = [row for row in times if row.startswith(prefix)]
    return min(rows, key=lambda row: statistics.median(times[row]))


def report(model, threads, times):
    """Prints one network's table; its entry of --json."""
    medians = {row: statistics.median(values) for row, values in times.items()}
    ours, theirs = best(times, "octet int8"), best(times, "ort int8")
    ratios = [t / o for t, o in zip(times[theirs], times[ours], strict=True)]
    least = {row: min(values) for row, values in times.items()}
    quiet = min(least[row] for row in least if row.startswith("ort int8")) / min(
        least[row] for row in least if row.startswith("octet int8"))
    print(f"{model.name}, {threads} thread{'s' if threads > 1 else ''}, batch 1")
    for row, value in medians.items():
        print(f"  {row:30} {value * 1e3:9.3f} ms (best {least[row] * 1e3:9.3f})   "
              f"{ours} is {value / medians[ours]:5.2f}x as fast")
    print(f"  fastest of ORT's INT8 ({theirs}): {statistics.median(ratios):.2f}x "
          f"(rounds {min(ratios):.2f} to {max(ratios):.2f}; best rounds {quiet:.2f})")
    return {
        "model": model.stem, "threads": threads, "seconds": medians, "best_seconds": least,
        "octet": ours, "best_ratio": quiet,
        "fastest_ort": theirs, "ratio": statistics.median(ratios), "ratios": ratios,
        "over_ort_float32": medians["ort float32"] / medians[ours],
        "over_octet_float32": medians["octet float32"] / medians[ours],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--octet", default="build/release/octet", type=pathlib.Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="per row and round")
    parser.add_argument("--dynamic-conv", action="store_true",
                        help="quantize_dynamic for networks with convolutions, too (very slow)")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures there as well")
    arguments = parser.parse_args()
    print(f"onnxruntime {ort.__version__}; {octet(arguments.octet, 'info').splitlines()[1]}")
    entries = []
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            contest = Contest(arguments, model, pathlib.Path(folder))
            contest.verify()
            for threads in arguments.threads:
                times = contest.measure(threads, arguments.rounds, arguments.seconds)
                entries.append(report(model, threads, times))
    if arguments.json:
        arguments.json.write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
