"""Single operators: Octet beside ONNX Runtime and, where it is installed, PyTorch, in one run.

The shapes are those `octet bench` takes. Every round times Octet (a process of its own, `octet bench
... --json`) and then each peer; rounds alternate, medians over all rounds are printed, and "octet
is" how many times as fast as the peer Octet's best row on the same data is: below 1 is a loss. The
time of an ONNX Runtime operator is what its profiler gives for the nodes, without the session
around them. Its INT8 results are checked against its own float32 of the same values first.

    python bench/peers/operators.py --suite torch-quantizer --threads 1 2
    python bench/peers/operators.py "linear 512x960x960" "conv2d 1x64x56x56 64 3x3 pad=1"

Machines drift: read the ratios, not the milliseconds.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

X_SCALE, Y_SCALE = 1 / 256, 1 / 64


def octet(program, *arguments):
    """The JSON of one octet bench command."""
    command = [str(program), "bench", *map(str, arguments), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def arguments_of(problem):
    """Command-line words of a problem: "pad=1" becomes --pad 1."""
    words = []
    for word in problem.split():
        key, equals, value = word.partition("=")
        words += [f"--{key}", value] if equals else [word]
    return words


class Problem:
    """A parsed problem and random data for it: exact multiples of their scales."""

    def __init__(self, text):
        words = text.split()
        self.text, self.op = text, words[0]
        options = dict(word.split("=") for word in words if "=" in word)
        self.zero_point = int(options.get("zero-point", 0))
        shape = [int(n) for n in words[1].split("x")]
        rng = np.random.default_rng(5)
        if self.op == "linear":
            m, k, n = shape
            self.x_shape, self.w_shape, depth = (m, k), (k, n), k
            self.attributes, self.channel_axis = {}, 1
        elif self.op == "conv2d":
            kernel = [int(n) for n in words[3].split("x")]
            groups = int(options.get("groups", 1))

            def pair(key, default):
                numbers = [int(n) for n in options.get(key, default).split("x")]
                return numbers * 2 if len(numbers) == 1 else numbers

            self.x_shape = tuple(shape)
            self.w_shape = (int(words[2]), shape[1] // groups, *kernel)
            depth = math.prod(self.w_shape[1:])
            self.attributes = {
                "group": groups,
                "kernel_shape": kernel,
                "strides": pair("stride", "1"),
                "pads": pair("pad", "0") * 2,
                "dilations": pair("dilation", "1"),
            }
            self.channel_axis = 0
        else:  # layernorm, quantize: floats by rows
            self.x_shape, self.w_shape, depth = tuple(shape), (shape[-1], 1), 1
            self.attributes, self.channel_axis = {}, 1
        channels = self.w_shape[self.channel_axis]
        self.codes = rng.integers(0, 256, self.x_shape, dtype=np.uint8)
        self.weight = rng.integers(-127, 128, self.w_shape, dtype=np.int8)
        self.weight_scale = np.full(channels, 0.04 / math.sqrt(depth), np.float32)
        shift = self.codes.astype(np.float32) - self.zero_point
        self.x = (shift * np.float32(X_SCALE)).astype(np.float32)
        self.float_weight = self.weight.astype(np.float32) * self.weight_scale[0]


def model_of(problem, inputs, outputs, nodes, constants):
    """ONNX bytes; inputs and outputs are (name, element type)."""

    def value(name, kind):
        rank = len(problem.x_shape)
        shape = {"x": problem.x.shape, "codes": problem.codes.shape}.get(name, [None] * rank)
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        nodes, "operator", [value(*i) for i in inputs], [value(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def row_models(p):
    """ONNX Runtime's LayerNorm, alone and with the addition before it; its quantizers."""
    f32, u8, node = TensorProto.FLOAT, TensorProto.UINT8, helper.make_node
    if p.op == "quantize":
        grid = {"xs": np.float32(X_SCALE), "xz": np.uint8(p.zero_point)}
        quantize = [node("QuantizeLinear", ["x", "xs", "xz"], ["q"])]
        dequantize = [node("DequantizeLinear", ["codes", "xs", "xz"], ["y"])]
        if len(p.x_shape) == 4:  # to NHWC, and back
            quantize.append(node("Transpose", ["q"], ["y"], perm=[0, 2, 3, 1]))
            p.codes = np.ascontiguousarray(p.codes.transpose(0, 2, 3, 1))
            dequantize[0].output[0] = "f"
            dequantize.append(node("Transpose", ["f"], ["y"], perm=[0, 3, 1, 2]))
        else:
            quantize[0].output[0] = "y"
        return {
            "ort QuantizeLinear": (
                "f32 > u8", model_of(p, [("x", f32)], [("y", u8)], quantize, grid), "x", None),
            "ort DequantizeLinear": (
                "u8 > f32", model_of(p, [("codes", u8)], [("y", f32)], dequantize, grid), "codes",
                None),
        }
    gains = {"g": np.ones(p.x_shape[-1], np.float32), "b": np.zeros(p.x_shape[-1], np.float32)}
    return {
        "ort LayerNormalization": (
            "f32 > f32",
            model_of(p, [("x", f32)], [("y", f32)],
                     [node("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1)], gains),
            "x", None),
        "ort SkipLayerNormalization": (
            "s32 + f32 > f32 + s8",
            model_of(p, [("x", f32)], [("y", f32)],
                     [node("SkipLayerNormalization", ["x", "x", "g", "b"], ["y"],
                           domain="com.microsoft")], gains),
            "x", None),
    }


def ort_models(p):
    """{row: (data, ONNX bytes, feed name, node kinds that count or None for all)}."""
    if p.op not in ("linear", "conv2d"):
        return row_models(p)
    constants = {
        "xs": np.float32(X_SCALE), "xz": np.uint8(p.zero_point), "w": p.weight,
        "ws": p.weight_scale, "wz": np.zeros(len(p.weight_scale), np.int8),
        "ys": np.float32(Y_SCALE), "yz": np.uint8(0),
    }
    f32, u8, s32 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT32
    node = helper.make_node
    linear = p.op == "linear"
    float_op, int8_op = ("MatMul", "QLinearMatMul") if linear else ("Conv", "QLinearConv")
    quantize = node("QuantizeLinear", ["x", "xs", "xz"], ["codes"])
    dequantize = node("DequantizeLinear", ["q", "ys", "yz"], ["y"])
    operator = node(int8_op, ["codes", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["q"],
                    **p.attributes)
    rows = {
        "ort float32": (
            "f32 > f32",
            model_of(p, [("x", f32)], [("y", f32)],
                     [node(float_op, ["x", "w"], ["y"], **p.attributes)], {"w": p.float_weight}),
            "x", None,
        ),
        f"ort {int8_op}": (
            "u8 > u8", model_of(p, [("codes", u8)], [("q", u8)], [operator], constants), "codes",
            (int8_op,),
        ),
        f"ort {int8_op}, conversions included": (
            "f32 > f32",
            model_of(p, [("x", f32)], [("y", f32)], [quantize, operator, dequantize], constants),
            "x", None,
        ),
    }
    if linear:
        used = {name: constants[name] for name in ("w", "xz")}
        rows["ort MatMulInteger"] = (
            "u8 > s32",
            model_of(p, [("codes", u8)], [("y", s32)],
                     [node("MatMulInteger", ["codes", "w", "xz"], ["y"])], used),
            "codes", None,
        )
        used = {name: constants[name] for name in ("w", "ws", "wz")}
        rows["ort DynamicQuantizeMatMul"] = (
            "f32 > f32 dynamic",
            model_of(p, [("x", f32)], [("y", f32)],
                     [node("DynamicQuantizeMatMul", ["x", "w", "ws", "wz"], ["y"],
                           domain="com.microsoft")], used),
            "x", None,
        )
    return rows


class OrtRow:
    """A session under ONNX Runtime's profiler; the file is read at the end."""

    def __init__(self, p, data, model, feed, kinds, threads, folder):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_profiling = True
        # A folder each: the file's name is a time in milliseconds.
        options.profile_file_prefix = tempfile.mkdtemp(dir=folder) + "/"
        self.data, self.kinds = data, kinds
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.feed = {feed: p.x if feed == "x" else p.codes}
        self.marks = []  # runs made before each round's timed runs, and after them
        self.runs = 0

    def run(self):
        self.runs += 1
        return self.session.run(None, self.feed)[0]

    def round(self, seconds):
        warm = time.perf_counter() + seconds * 0.2
        while time.perf_counter() < warm:
            self.run()
        first, end = self.runs, time.perf_counter() + seconds
        while time.perf_counter() < end or self.runs - first < 3:
            self.run()
        self.marks.append((first, self.runs))

    def seconds(self):
        """Per round: the mean of the middle three fifths of the runs' node times (whole us each)."""
        path = pathlib.Path(self.session.end_profiling())
        per_run, current = [], 0
        for event in json.loads(path.read_text(encoding="utf-8")):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                kind = event["args"]["op_name"]
                if self.kinds is None or any(k in kind for k in self.kinds):
                    current += event["dur"]
            elif event["name"] == "model_run":
                per_run.append(current * 1e-6)
                current = 0
        path.unlink()
        rounds = []
        for first, end in self.marks:
            times = sorted(per_run[first:end])
            cut = len(times) // 5
            rounds.append(statistics.fmean(times[cut : len(times) - cut]))
        return rounds


class TorchRow:
    """nn.Linear by torch's dynamic quantization, per-channel int8 weights; the whole call."""

    data = "f32 > f32 dynamic"

    def __init__(self, torch, p, threads):
        torch.set_num_threads(threads)
        linear = torch.nn.Linear(p.w_shape[0], p.w_shape[1], bias=False)
        linear.weight.data = torch.from_numpy(np.ascontiguousarray(p.float_weight.T))
        with warnings.catch_warnings(action="ignore"):  # that this road is to be another package's
            quantization = torch.ao.quantization
            self.module = quantization.quantize_dynamic(
                torch.nn.Sequential(linear),
                {torch.nn.Linear: quantization.per_channel_dynamic_qconfig},
            )
        self.x, self.times = torch.from_numpy(p.x), []
        self.no_grad = torch.inference_mode

    def run(self):
        with self.no_grad():
            return self.module(self.x).numpy()

    def round(self, seconds):
        times, end = [], time.perf_counter() + seconds * 1.2
        while time.perf_counter() < end or len(times) < 4:
            start = time.perf_counter()
            self.run()
            times.append(time.perf_counter() - start)
        self.times.append(statistics.median(times[len(times) // 5 :]))

    def seconds(self):
        return self.times


def check(p, rows):
    """INT8 against float32 of the same values: within the steps that the roundings leave."""
    if "ort float32" not in rows:
        return
    reference = rows["ort float32"].run()
    for name, row in rows.items():
        y = row.run().astype(np.float64)
        if row.data == "u8 > u8":
            y *= Y_SCALE
        elif row.data == "u8 > s32":
            y *= X_SCALE * p.weight_scale[0]
        if row.data == "u8 > s32":
            expected, bound = reference, 1e-3
        elif "dynamic" in row.data:
            # Codes of x are off by half a step of its range at most; in a sum of K such errors.
            depth = p.w_shape[0]
            expected, bound = reference, X_SCALE * np.abs(p.float_weight).max() * math.sqrt(depth) * 4
        elif name == "ort float32":
            continue
        else:
            expected, bound = np.clip(reference, 0, 255 * Y_SCALE), 1.001 * Y_SCALE
        worst = np.abs(y - expected).max()
        if not worst <= bound:
            raise SystemExit(f"{p.text}: {name} differs from float32 by {worst}, allowed {bound}")


def measure(arguments, text, threads, torch, folder):
    """[(row, data, median seconds, peer)], Octet's first."""
    p = Problem(text)
    peers = {
        name: OrtRow(p, *row, threads, folder)
        for name, row in ort_models(p).items()
    }
    if torch is not None and p.op == "linear":
        peers["torch dynamic quantized Linear"] = TorchRow(torch, p, threads)
    check(p, peers)
    octet_times = {}
    for _ in range(arguments.rounds):
        report = octet(arguments.octet, *arguments_of(text), "--threads", threads, "--seconds",
                       arguments.seconds, *([] if arguments.onednn else ["--no-peers"]))[0]
        for row in report["rows"]:
            if "missing" not in row:
                key = (row["name"], row["data"], row["peer"])
                octet_times.setdefault(key, []).append(row["median_s"])
        for peer in peers.values():
            peer.round(arguments.seconds)
    rows = [(name, data, statistics.median(t), peer)
            for (name, data, peer), t in octet_times.items()]
    rows += [(name, peer.data, statistics.median(peer.seconds()), True)
             for name, peer in peers.items()]
    return report["macs"], rows


def octet_best(rows, data):
    """Octet's fastest on this data. Static scales are no answer to a peer that finds its own, unless
    Octet has no dynamic row: then the row is marked."""
    times = [t for _, d, t, peer in rows if not peer and d == data]
    if not times and data.startswith("f32 > f32"):
        return min(t for _, d, t, peer in rows if not peer and d == "f32 > f32"), " (static)"
    if not times and data == "u8 > s32":
        return min(t for _, d, t, peer in rows if not peer and d == "u8 > u8"), " (u8 out)"
    return (min(times) if times else None), ""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("problems", nargs="*", help='"linear 512x960x960"')
    parser.add_argument("--suite", help="a suite of octet bench")
    parser.add_argument("--octet", default="build/release/octet", type=pathlib.Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.15, help="per row and round")
    parser.add_argument("--onednn", action="store_true", help="the oneDNN rows of octet bench too")
    parser.add_argument("--json", type=pathlib.Path, help="write the table here too")
    arguments = parser.parse_args()
    problems = list(arguments.problems)
    if arguments.suite:
        listed = octet(arguments.octet, "suite", arguments.suite, "--list")
        problems += listed
    if not problems:
        parser.error("no problem and no --suite")
    try:
        import torch
    except ImportError as error:
        torch = None
        print(f"PyTorch rows are skipped: {error}")
    versions = f"onnxruntime {ort.__version__}"
    print(versions + (f", torch {torch.__version__}" if torch else ""))
    ratios, table = {}, []
    for text in problems:
        for threads in arguments.threads:
            with tempfile.TemporaryDirectory() as folder:
                macs, rows = measure(arguments, text, threads, torch, pathlib.Path(folder))
            print(f"\n{text}, {threads} thread{'s' if threads > 1 else ''}")
            for name, data, seconds, peer in rows:
                ours, note = octet_best(rows, data) if peer else (None, "")
                ratio = seconds / ours if ours else None
                cell = f"octet is {ratio:5.2f}x{note}" if ratio else ""
                rate = f"{2e-9 * macs / seconds:8.1f} GOP/s" if macs else ""
                print(f"  {name:40} {data:20} {seconds * 1e6:10.1f} us {rate:14}  {cell}")
                table.append({"problem": text, "threads": threads, "row": name, "data": data,
                              "median_s": seconds, "peer": peer, "octet_speed": ratio})
                if ratio:
                    ratios.setdefault((name + note, threads), []).append((ratio, text))
    print("\nOctet is ... times as fast as (geometric mean; worst row):")
    for (name, threads), values in ratios.items():
        mean = math.exp(statistics.fmean(math.log(r) for r, _ in values))
        worst, where = min(values)
        lost = sum(r < 1 for r, _ in values)
        print(f"  {name:58} {threads}T {mean:6.2f}x  worst {worst:5.2f}x ({where}), "
              f"slower on {lost} of {len(values)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + os.linesep, encoding="utf-8")


if __name__ == "__main__":
    main()
