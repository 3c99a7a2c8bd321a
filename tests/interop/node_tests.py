"""The backend node tests of ONNX itself, for every operator that Octet knows.

The cases come from the `onnx` package; they are written once into build/tests/node and handed to a
few `octet run --batch-file` processes. Each case ends as

    passed       every output has the expected type, shape and values (floats as the onnx runner
                 compares: rtol 1e-3, atol 1e-7 or the case's own; integers exactly)
    unsupported  Octet refused it, and it holds an operator that node_tests_operators.txt does not
                 list, or it is on node_tests_refused.txt with the reason
    failed       anything else: a wrong value, a refusal that nobody wrote down, or a success that
                 node_tests_refused.txt says does not happen

Cases of types that .npy does not have are left out and counted. Cases of operator sets newer than
Octet reads are written with the newest it does, where ONNX itself accepts them so (most new sets
only add types), and may be refused otherwise.

The batch file is a JSON list of {"model", "inputs": {name: file}, "output_dir"}; the answer is a
list as long of {"ok": true, "outputs": [{"name", "file"}]} or {"ok": false, "exit_code": n,
"error": text}.
"""

import collections
import fnmatch
import json
import pathlib
import shutil
import unittest
import warnings

import numpy as np
import onnx
from octet_program import SCRATCH, UNSUPPORTED, run

HERE = pathlib.Path(__file__).resolve().parent
CHUNK = 100
NEWEST_OPSET, NEWEST_IR = 23, 11  # that Octet reads (src/files/onnx_read.h)
CHANGED = (
    "test_mod_float*fmod_0*"  # allowed since set 28 only, though the checker takes it in older ones
)
NPY_TYPES = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split()


def read_list(name):
    """Lines 'pattern  reason' of a text file; '#' begins a comment."""
    entries = {}
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        pattern, _, reason = line.partition("#")[0].strip().partition(" ")
        if pattern:
            entries[pattern] = reason.strip()
    return entries


def is_npy(value):
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.name in NPY_TYPES


def nodes_of(graph):
    """All nodes, those of sub-graphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)


def opset_of(model):
    return max([o.version for o in model.opset_import if o.domain in ("", "ai.onnx")], default=0)


def lowered(model):
    """The model in an operator set that Octet reads; as it is where that says something else."""
    if opset_of(model) <= NEWEST_OPSET or fnmatch.fnmatch(model.graph.name, CHANGED):
        return model
    older = onnx.ModelProto()
    older.CopyFrom(model)
    older.ir_version = NEWEST_IR
    for entry in older.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = NEWEST_OPSET
    try:
        onnx.checker.check_model(older, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return model
    return older


def write_case(case, folder):
    """Writes model and arrays; the description that cases.json keeps."""
    folder.mkdir(parents=True)
    inputs, outputs = case.data_sets[0]
    model = lowered(case.model)
    described = {
        "name": case.name,
        "model": str(folder / "model.onnx"),
        "opset": opset_of(model),
        "operators": sorted({node.op_type for node in nodes_of(model.graph)}),
        "representable": all(v is None or is_npy(v) for v in list(inputs) + list(outputs)),
        "rtol": case.rtol,
        "atol": case.atol,
        "inputs": {},
        "expected": {},
    }
    onnx.save(model, described["model"])
    if not described["representable"]:
        return described
    for kind, values, infos in (
        ("inputs", inputs, case.model.graph.input),
        ("expected", outputs, case.model.graph.output),
    ):
        for index, (value, info) in enumerate(zip(values, infos)):
            if value is not None:
                path = folder / f"{kind}_{index}.npy"
                np.save(path, np.asarray(value))
                described[kind][info.name] = str(path)
    return described


def all_cases():
    """Every case with data, written to disk the first time."""
    folder = SCRATCH / f"node_{onnx.__version__}_{NEWEST_OPSET}"
    listing = folder / "cases.json"
    if not listing.exists():
        shutil.rmtree(folder, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the reference code divides by zero on purpose
            from onnx.backend.test.case.node import collect_testcases

            cases = [c for c in collect_testcases(None) if c.model is not None and c.data_sets]
        described = [write_case(case, folder / case.name) for case in cases]
        listing.write_text(json.dumps(described), encoding="utf-8")
    return json.loads(listing.read_text(encoding="utf-8"))


def run_batch(cases):
    """The answers of one octet process; of one process per case where that process died."""
    outputs = SCRATCH / "node_outputs"
    batch = [
        {"model": c["model"], "inputs": c["inputs"], "output_dir": str(outputs / c["name"])}
        for c in cases
    ]
    listing = SCRATCH / "node_batch.json"
    listing.write_text(json.dumps(batch), encoding="utf-8")
    try:
        answers = run("run", "--batch-file", listing, "--json", timeout=300).json
        if len(answers) != len(cases):
            raise AssertionError(f"{len(cases)} cases got {len(answers)} answers")
        return answers
    except (AssertionError, json.JSONDecodeError) as error:
        if len(cases) == 1:
            return [{"ok": False, "exit_code": -1, "error": f"octet died: {error}"}]
        return [run_batch([case])[0] for case in cases]


def compare(case, answer):
    """What is wrong with the outputs, or None."""
    files = {entry["name"]: entry["file"] for entry in answer["outputs"]}
    for name, path in case["expected"].items():
        expected = np.load(path)
        if name not in files:
            return f"no output {name}"
        got = np.load(SCRATCH / "node_outputs" / case["name"] / pathlib.Path(files[name]).name)
        if got.dtype != expected.dtype or got.shape != expected.shape:
            return (
                f"{name}: {got.dtype}{list(got.shape)}, not {expected.dtype}{list(expected.shape)}"
            )
        if expected.dtype.kind != "f":
            if not np.array_equal(got, expected):
                return f"{name}: {np.count_nonzero(got != expected)} of {expected.size} differ"
        elif not np.allclose(got, expected, rtol=case["rtol"], atol=case["atol"], equal_nan=True):
            with np.errstate(invalid="ignore"):
                worst = np.nan_to_num(np.abs(got - expected)).max(initial=0)
            return f"{name}: off by up to {worst:.3g}"
    return None


def judge(case, answer, operators, refused):
    """('passed' | 'unsupported' | 'failed', detail) of one case."""
    listed = [pattern for pattern in refused if fnmatch.fnmatch(case["name"], pattern)]
    wrong = compare(case, answer) if answer["ok"] else None
    if wrong:
        may_differ = listed and refused[listed[0]].startswith("differs:")
        return "unsupported" if may_differ else "failed", wrong
    if answer["ok"]:
        stale = f"passes, but '{listed[0]}' says it is refused" if listed else ""
        return "failed" if listed else "passed", stale
    unknown = [name for name in case["operators"] if name not in operators]
    if (unknown or case["opset"] > NEWEST_OPSET) and answer["exit_code"] == UNSUPPORTED:
        return "unsupported", f"operator {unknown[0]}" if unknown else f"opset {case['opset']}"
    if listed:
        return "unsupported", refused[listed[0]]
    return "failed", f"exit code {answer['exit_code']}: {answer['error']}"


class NodeTests(unittest.TestCase):
    def test_backend(self):
        operators = read_list("node_tests_operators.txt")
        refused = read_list("node_tests_refused.txt")
        cases = all_cases()
        usable = [case for case in cases if case["representable"]]
        shutil.rmtree(SCRATCH / "node_outputs", ignore_errors=True)
        verdicts = {}
        for start in range(0, len(usable), CHUNK):
            chunk = usable[start : start + CHUNK]
            for case, answer in zip(chunk, run_batch(chunk)):
                verdicts[case["name"]] = judge(case, answer, operators, refused)
        counts = collections.Counter(state for state, _ in verdicts.values())
        print(
            f"        node_tests: {counts['passed']} passed, {counts['failed']} failed, "
            f"{counts['unsupported']} unsupported, {len(cases) - len(usable)} of types without .npy"
        )
        idle = [p for p in refused if not fnmatch.filter(verdicts, p)]
        faults = [f"{n}: {text}" for n, (state, text) in verdicts.items() if state == "failed"]
        faults += [f"node_tests_refused.txt: '{pattern}' fits no case" for pattern in idle]
        if faults:
            self.fail(f"{len(faults)} faults:\n" + "\n".join(faults))


if __name__ == "__main__":
    unittest.main()
