"""Octet's QDQ files in ONNX Runtime: they pass the onnx checker, load, and give the codes that
Octet gives.

Every QuantizeLinear output of an activation becomes a graph output of a copy, which ONNX Runtime
runs; Octet runs the file itself on its INT8 kernels (`octet run --int8 --dump-codes DIR`, which
writes one .npy per quantized value and lists them in DIR/codes.json as [{"name", "file"}]). Bound
(issue A): at least 99.5 % of all codes equal and none off by more than 2; what differs are rounding
ties that the two multiply differently.
"""

import json
import pathlib
import unittest

import numpy as np
import onnx
import onnxruntime as ort
from demo_model import DATA, MODEL, PRESET, fresh_folder, quantized
from image_data import PRESETS, read_image, read_rows
from octet_program import need_real, succeed

EQUAL_SHARE = 0.995
MAX_DIFFERENCE = 2


def has_vnni():
    """Without it ONNX Runtime's u8s8 kernels saturate at 16 bits; its float run of Q and DQ then
    serves."""
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return "avx512_vnni" in flags or "avx_vnni" in flags


def expose_codes(path, out):
    """Writes a copy whose outputs are the activations' QuantizeLinear outputs; their names."""
    model = onnx.load(str(path))
    constants = {tensor.name for tensor in model.graph.initializer}
    names = [
        node.output[0]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants
    ]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    onnx.save(model, str(out))
    return names


def ort_codes(path, feeds, folder):
    """{name: codes} by ONNX Runtime."""
    exposed = folder / "exposed.onnx"
    names = expose_codes(path, exposed)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not has_vnni():
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(exposed), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, feeds)))


def octet_codes(path, feeds, folder):
    """{name: codes} by Octet's INT8 kernels."""
    ((name, array),) = feeds.items()
    np.save(folder / "input.npy", array)
    dump = folder / "codes"
    flags = ("--int8", "--dump-codes", dump, "--output-dir", folder / "out")
    succeed("run", path, "--input", f"{name}={folder / 'input.npy'}", *flags)
    listed = json.loads((dump / "codes.json").read_text(encoding="utf-8"))
    return {entry["name"]: np.load(dump / pathlib.Path(entry["file"]).name) for entry in listed}


class QdqInOrt(unittest.TestCase):
    def compare(self, path, image, folder):
        """Requires the codes of one image to agree within the bound."""
        feeds = {onnx.load(str(path)).graph.input[0].name: image}
        theirs, ours = ort_codes(path, feeds, folder), octet_codes(path, feeds, folder)
        self.assertGreater(len(theirs), 5, "quantized values")
        missing = sorted(set(theirs) - set(ours))
        self.assertEqual(missing, [], "quantized values that octet did not dump")
        total = different = 0
        for name, codes in theirs.items():
            self.assertEqual((ours[name].dtype, ours[name].shape), (codes.dtype, codes.shape), name)
            distance = np.abs(ours[name].astype(np.int32) - codes.astype(np.int32))
            self.assertLessEqual(int(distance.max()), MAX_DIFFERENCE, f"codes of {name}")
            total += distance.size
            different += int(np.count_nonzero(distance))
        print(f"        {path.name}: {different} of {total} codes differ")
        self.assertGreaterEqual(1 - different / total, EQUAL_SHARE, "share of equal codes")

    def test_demo_codes(self):
        images, _ = read_rows(DATA, PRESETS["imagenet-tf"], slice(64, 66))
        self.compare(quantized(), images, fresh_folder("qdq_demo"))

    def test_demo_codes_tensorrt(self):
        images, _ = read_rows(DATA, PRESETS["imagenet-tf"], slice(64, 65))
        self.compare(quantized("tensorrt"), images, fresh_folder("qdq_demo_tensorrt"))

    def test_checker(self):
        for target in ("onnxruntime", "tensorrt"):
            onnx.checker.check_model(onnx.load(str(quantized(target))), full_check=True)

    def test_saved_stage(self):
        """The stages of the road are standard files as well."""
        folder = fresh_folder("qdq_stages")
        stage = folder / "folded.onnx"
        data = ("--data", DATA, *PRESET, "--samples", 8)
        succeed("quantize", MODEL, *data, "--save-stage", f"fold={stage}", "-o", folder / "q.onnx")
        onnx.checker.check_model(onnx.load(str(stage)), full_check=True)
        kinds = {node.op_type for node in onnx.load(str(stage)).graph.node}
        self.assertNotIn("BatchNormalization", kinds)

    def real(self, model, data, image, flags):
        folder = fresh_folder(f"qdq_{model.stem}")
        out = folder / "quantized.onnx"
        succeed("quantize", model, "--data", data, *flags, "-o", out)
        onnx.checker.check_model(onnx.load(str(out)), full_check=True)
        self.compare(out, image[None], folder)

    def test_real_mobilenet(self):
        real = need_real()
        data = real / "imagenet_200"
        image = read_image(sorted(data.glob("*.jpg"))[-1], PRESETS["imagenet-tf"])
        flags = ("--preset", "imagenet-tf", "--samples", 64)
        self.real(real / "mobilenet_v1_025_224.onnx", data, image, flags)

    def test_real_face_detector(self):
        real = need_real()
        image = read_image(sorted((real / "faces").glob("*.jpg"))[-1], PRESETS["face-rfb"])
        flags = ("--mean", 127, "--std", 128)
        self.real(real / "face_rfb_320.onnx", real / "faces", image, flags)


if __name__ == "__main__":
    unittest.main()
