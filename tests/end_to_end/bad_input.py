"""What Octet says to bad models, bad data and bad places to write: the documented exit code, a
message that names the thing, and nothing half-written. Every case starts from one small good model
and good data.
"""

import os
import pathlib
import resource
import shutil
import subprocess
import unittest

import numpy as np
import onnx
from demo_model import fresh_folder
from make_models import Network, conv_bn_relu
from octet_program import (
    BAD_DATA,
    BAD_FILE,
    IO_ERROR,
    OK,
    PROGRAM,
    UNSUPPORTED,
    USAGE,
    run,
    succeed,
)
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE = 16
ROWS = 8
FLIPS = 48  # single bits flipped per file, evenly spread
PRESET = ("--preset", "imagenet-tf")


def small_model():
    net = Network("small", (3, SIDE, SIDE), seed=9)
    x = conv_bn_relu(net, "input", 8, 3)
    return net.model(net.classifier(conv_bn_relu(net, x, 8, 3), 4))


def write_pictures(folder, make):
    """ROWS pictures and labels.csv; make(row) gives (SIDE, SIDE, 3) u8."""
    folder.mkdir(parents=True)
    rows = ["file,label"]
    for row in range(ROWS):
        name = f"picture_{row}.jpg"
        Image.fromarray(make(row)).save(folder / name, quality=95)
        rows.append(f"{name},{row % 4}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def drawn_picture(row):
    """A gradient with a few noisy rows: neither constant nor noise."""
    rng = np.random.default_rng(row)
    y, x = np.mgrid[:SIDE, :SIDE]
    gradient = np.stack([8 * x + 5 * row, 8 * y, 4 * (x + y)], axis=-1)
    return np.clip(gradient + 3 * rng.integers(0, 9, (SIDE, 1, 3)), 0, 255).astype(np.uint8)


def flipped(content, count):
    """Copies of `content` with one bit flipped, at `count` places evenly spread."""
    for index in range(count):
        position = len(content) * index // count
        changed = bytearray(content)
        changed[position] ^= 1 << (index % 8)
        yield position, bytes(changed)


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = fresh_folder("bad_input")
        cls.model = cls.folder / "good.onnx"
        onnx.save(small_model(), str(cls.model))
        cls.data = write_pictures(cls.folder / "good", drawn_picture)

    def setUp(self):
        self.place = self.folder / "place"  # where outputs go; must stay as it was
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        self.out = self.place / "out.onnx"

    def save(self, model, name="bad.onnx"):
        path = self.folder / name
        onnx.save(model, str(path))
        return path

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def quantize(self, model=None, data=None, *flags):
        data = ("--data", data or self.data)
        arguments = (model or self.model, *data, *PRESET, "-o", self.out, *flags)
        return run("quantize", *arguments, timeout=60)

    def refused(self, result, codes, *words):
        """One of the codes, every word in the message, nothing written."""
        codes = codes if isinstance(codes, tuple) else (codes,)
        self.assertIn(result.code, codes, result.err + result.out)
        for word in words:
            self.assertIn(word.lower(), result.err.lower())
        self.assertNotIn("terminate called", result.err)
        self.assertEqual([p.name for p in self.place.iterdir()], [], "left behind")

    def survived(self, result, allowed, what):
        """Damage that may be harmless: success or one of the codes, and in no case half a file."""
        self.assertIn(result.code, (OK, *allowed), f"{what}: {result.err}")
        left = [p for p in self.place.iterdir() if result.code != OK or p.name.startswith(".")]
        self.assertEqual(left, [], f"{what}: left behind")

    def test_good_is_good(self):
        self.assertEqual(self.quantize().code, OK)
        self.assertTrue(self.out.exists())

    # Models.

    def test_truncated_onnx(self):
        content = self.model.read_bytes()
        for length in (0, 1, 10, len(content) // 2, len(content) - 1):
            path = self.write("truncated.onnx", content[:length])
            self.refused(self.quantize(path), BAD_FILE, "truncated.onnx")

    def test_flipped_onnx(self):
        for position, content in flipped(self.model.read_bytes(), FLIPS):
            path = self.write("flipped.onnx", content)
            self.out.unlink(missing_ok=True)
            allowed = (USAGE, BAD_FILE, UNSUPPORTED, BAD_DATA, IO_ERROR)
            self.survived(self.quantize(path), allowed, f"bit flipped in byte {position}")

    def test_not_onnx(self):
        path = self.write("text.onnx", b"This is no model.\n" * 20)
        self.refused(self.quantize(path), BAD_FILE, "text.onnx")

    def test_absent_model(self):
        self.refused(self.quantize(self.folder / "absent.onnx"), IO_ERROR, "absent.onnx")

    def test_cyclic_graph(self):
        model = small_model()
        first = model.graph.node[0]
        first.input[0] = model.graph.node[3].output[0]
        self.refused(self.quantize(self.save(model)), BAD_FILE, "cycl")

    def test_unknown_operator(self):
        model = small_model()
        model.graph.node[2].op_type = "Frobnicate"
        result = self.quantize(self.save(model))
        self.refused(result, UNSUPPORTED, "Frobnicate", model.graph.node[2].name)

    def test_unknown_domain(self):
        model = small_model()
        model.graph.node[2].domain = "com.example"
        model.opset_import.append(helper.make_opsetid("com.example", 1))
        self.refused(self.quantize(self.save(model)), UNSUPPORTED, "com.example")

    def test_undefined_value(self):
        model = small_model()
        model.graph.node[2].input[0] = "nobody_makes_this"
        self.refused(self.quantize(self.save(model)), BAD_FILE, "nobody_makes_this")

    def test_wrong_weight_shape(self):
        model = small_model()
        name = model.graph.node[3].input[1]  # of the second Conv
        for index, tensor in enumerate(model.graph.initializer):
            if tensor.name == name:
                wrong = np.zeros((8, 5, 3, 3), np.float32)
                model.graph.initializer[index].CopyFrom(numpy_helper.from_array(wrong, name))
        self.refused(self.quantize(self.save(model)), BAD_FILE, model.graph.node[3].name)

    def test_short_raw_data(self):
        model = small_model()
        tensor = model.graph.initializer[0]
        tensor.raw_data = tensor.raw_data[:-4]
        self.refused(self.quantize(self.save(model)), BAD_FILE, tensor.name)

    def test_huge_dimensions(self):
        """A product of dimensions that overflows 64 bits is not allocated."""
        model = small_model()
        tensor = model.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend([2**31, 2**31, 2**31])
        self.refused(self.quantize(self.save(model)), (BAD_FILE, UNSUPPORTED), tensor.name)

    def test_nan_weight(self):
        for value in (np.nan, np.inf):
            model = small_model()
            tensor = model.graph.initializer[0]
            weight = numpy_helper.to_array(tensor).copy()
            weight[0, 0, 0, 0] = value
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
            self.refused(self.quantize(self.save(model)), (BAD_FILE, BAD_DATA), tensor.name)

    def external(self, location):
        model = small_model()
        tensor = model.graph.initializer[0]
        onnx.external_data_helper.set_external_data(tensor, location)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        path = self.folder / "external.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    def test_missing_external_data(self):
        self.refused(self.quantize(self.external("absent.bin")), (BAD_FILE, IO_ERROR), "absent.bin")

    def test_external_data_outside(self):
        """Paths that leave the model's folder are refused even where the file is there."""
        secret = self.folder.parent / "secret.bin"
        secret.write_bytes(bytes(4096))
        (self.folder / "link.bin").unlink(missing_ok=True)
        (self.folder / "link.bin").symlink_to(secret)
        for location in ("../secret.bin", str(secret), "sub/../../secret.bin", "link.bin"):
            result = self.quantize(self.external(location))
            self.refused(result, (BAD_FILE, UNSUPPORTED), pathlib.Path(location).name)

    def test_nothing_to_quantize(self):
        net = Network("relu_only", (3, SIDE, SIDE), seed=1)
        path = self.save(net.model(net.relu("input")))
        result = self.quantize(path)
        self.assertNotEqual(result.code, OK)
        self.refused(result, (USAGE, UNSUPPORTED, BAD_DATA, BAD_FILE), "quantiz")

    # Data.

    def test_empty_folder(self):
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        self.refused(self.quantize(data=empty), BAD_DATA, "empty")

    def test_absent_folder(self):
        self.refused(self.quantize(data=self.folder / "absent"), IO_ERROR, "absent")

    def changed_picture(self, content):
        """A copy of the good data with one picture's bytes replaced."""
        folder = self.folder / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.data, folder)
        (folder / "picture_3.jpg").write_bytes(content)
        return folder

    def test_truncated_jpeg(self):
        content = (self.data / "picture_3.jpg").read_bytes()
        for length in (0, 2, len(content) // 2):
            result = self.quantize(data=self.changed_picture(content[:length]))
            self.refused(result, (BAD_FILE, BAD_DATA), "picture_3.jpg")

    def test_flipped_jpeg(self):
        for position, content in flipped((self.data / "picture_3.jpg").read_bytes(), FLIPS):
            self.out.unlink(missing_ok=True)
            result = self.quantize(data=self.changed_picture(content))
            allowed = (BAD_FILE, BAD_DATA, UNSUPPORTED)
            self.survived(result, allowed, f"bit flipped in byte {position}")

    def test_missing_picture(self):
        folder = self.changed_picture(b"")
        (folder / "picture_3.jpg").unlink()
        self.refused(self.quantize(data=folder), (IO_ERROR, BAD_FILE, BAD_DATA), "picture_3.jpg")

    def test_labels_that_leave(self):
        folder = self.changed_picture(b"")
        text = "file,label\n../good/picture_0.jpg,1\n"
        (folder / "labels.csv").write_text(text, encoding="utf-8")
        self.refused(self.quantize(data=folder), (BAD_FILE, BAD_DATA), "../good/picture_0.jpg")

    def test_bad_label(self):
        folder = self.changed_picture((self.data / "picture_3.jpg").read_bytes())
        (folder / "labels.csv").write_text("file,label\npicture_0.jpg,4\n", encoding="utf-8")
        metric = ("--metric", "top1")
        result = run("eval", self.model, "--data", folder, *PRESET, *metric)
        self.refused(result, BAD_DATA, "picture_0.jpg")  # four classes: 0 to 3

    def test_wrong_picture_size(self):
        def wide(row):
            return np.concatenate([drawn_picture(row)] * 2, axis=1)

        shutil.rmtree(self.folder / "wide", ignore_errors=True)
        folder = write_pictures(self.folder / "wide", wide)
        result = self.quantize(None, folder, "--resize", "none")
        self.refused(result, BAD_DATA, "picture_0.jpg", str(2 * SIDE))

    def test_constant_pictures(self):
        shutil.rmtree(self.folder / "constant", ignore_errors=True)
        grey = np.full((SIDE, SIDE, 3), 90, np.uint8)
        folder = write_pictures(self.folder / "constant", lambda row: grey)
        self.refused(self.quantize(data=folder), BAD_DATA, "constant")

    def arrays(self, change=None):
        rng = np.random.default_rng(3)
        rows = np.cumsum(rng.standard_normal((ROWS, 3, SIDE, SIDE)), axis=-1).astype(np.float32)
        if change is not None:
            rows[5, 1, 2, 3] = change
        path = self.folder / "rows.npy"
        np.save(path, rows)
        return path

    def quantize_arrays(self, path):
        return run("quantize", self.model, "--data", path, "-o", self.out, timeout=60)

    def test_good_array(self):
        self.assertEqual(self.quantize_arrays(self.arrays()).code, OK)

    def test_nan_data(self):
        for value in (np.nan, np.inf, -np.inf):
            self.refused(self.quantize_arrays(self.arrays(value)), BAD_DATA, "rows.npy", "5")

    def test_truncated_npy(self):
        content = self.arrays().read_bytes()
        for length in (0, 5, 60, len(content) // 2, len(content) - 1):
            path = self.write("cut.npy", content[:length])
            self.refused(self.quantize_arrays(path), BAD_FILE, "cut.npy")

    def test_flipped_npy(self):
        for position, content in flipped(self.arrays().read_bytes()[:128], 64):
            whole = content + self.arrays().read_bytes()[128:]
            path = self.write("flipped.npy", whole)
            self.out.unlink(missing_ok=True)
            allowed = (BAD_FILE, UNSUPPORTED, BAD_DATA)
            self.survived(self.quantize_arrays(path), allowed, f"bit flipped in byte {position}")

    def test_wrong_run_input(self):
        good = np.zeros((1, 3, SIDE, SIDE), np.float32)
        for array, name, word in (
            (good[:, :2], "input", "input"),
            (good.astype(np.float64), "input", "input"),
            (good, "inputt", "input"),
        ):
            path = self.folder / "x.npy"
            np.save(path, array)
            outputs = ("--output-dir", self.place)
            result = run("run", self.model, "--input", f"{name}={path}", *outputs)
            self.refused(result, (BAD_DATA, USAGE), word)

    # Recipes.

    def test_bad_recipes(self):
        for text, word in (
            ("esimator: mse\n", "esimator"),
            ("estimator: crystal-ball\n", "crystal-ball"),
            ("layers:\n  - match: '*'\n    skipp: true\n", "skipp"),
            ("estimator: [unclosed\n", "bad.yaml"),
        ):
            path = self.write("bad.yaml", text.encode())
            self.refused(self.quantize(None, None, "--recipe", path), (USAGE, BAD_FILE), word)

    def test_unknown_recipe_name(self):
        self.refused(self.quantize(None, None, "--recipe", "wishful"), USAGE, "wishful", "naive")
        for file in ("wishful.yaml", "no/wishful"):
            self.refused(self.quantize(None, None, "--recipe", file), IO_ERROR, file, "no such")

    def test_usage(self):
        for arguments, words in (
            ((), ("no command", "quantize")),
            (("quant",), ("quant", "quantize")),
            (("--loud",), ("--loud", "quantize")),
            (("inspect",), ("MODEL", "octet inspect --help")),
            (("eval", self.model, "--samples", "-5"), ("--samples", "-5", "-1 or more")),
        ):
            result = run(*arguments)
            self.refused(result, USAGE, "octet: error: ", *words)

    def test_unknown_forced_isa(self):
        data = ("--data", self.data, *PRESET)
        result = run("quantize", self.model, *data, "-o", self.out, OCTET_FORCE_ISA="quantum")
        self.refused(result, USAGE, "quantum")

    # Places to write.

    def test_existing_output_survives_failure(self):
        self.out.write_bytes(b"precious")
        result = self.quantize(self.write("text.onnx", b"no model"))
        self.assertEqual(result.code, BAD_FILE)
        self.assertEqual(self.out.read_bytes(), b"precious")
        self.assertEqual(len(list(self.place.iterdir())), 1)

    def test_output_folder_absent(self):
        self.out = self.place / "nowhere" / "out.onnx"
        self.refused(self.quantize(), IO_ERROR, "nowhere")

    def test_output_below_a_file(self):
        self.out = self.model / "out.onnx"
        self.refused(self.quantize(), IO_ERROR, "good.onnx")

    def test_output_is_an_input(self):
        """By another name, too: the float model must not be lost."""
        before = self.model.read_bytes()
        link = self.folder / "link.onnx"
        link.unlink(missing_ok=True)
        link.symlink_to(self.model)
        stage = ("--save-stage", f"fold={link}", "-o", self.out)
        for flags in (("-o", self.model), ("-o", link), stage):
            result = run("quantize", self.model, "--data", self.data, *PRESET, *flags)
            self.refused(result, USAGE, "good.onnx", "would be lost")
            self.assertEqual(self.model.read_bytes(), before)

    def test_standard_output_that_is_full(self):
        for flags in ((), ("--json",)):
            with open("/dev/full", "wb") as full:
                command = [str(PROGRAM), "inspect", str(self.model), *flags]
                pipes = {"stdout": full, "stderr": subprocess.PIPE, "text": True}
                done = subprocess.run(command, check=False, timeout=60, **pipes)
            self.assertEqual(done.returncode, IO_ERROR, done.stderr)
            self.assertIn("standard output", done.stderr)

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_output_not_permitted(self):
        self.place.chmod(0o500)
        try:
            self.refused(self.quantize(), IO_ERROR, "out.onnx")
        finally:
            self.place.chmod(0o700)

    def limited(self, *arguments):
        """octet with a file size limit below what it has to write."""

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

        command = [str(PROGRAM), *map(str, arguments)]
        pipes = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
        return subprocess.run(command, preexec_fn=limit, check=False, timeout=60, **pipes)

    def test_refused_writes(self):
        for command in (
            ("quantize", self.model, "--data", self.data, *PRESET, "-o", self.out),
            ("calibrate", self.model, "--data", self.data, *PRESET, "-o", self.out),
        ):
            done = self.limited(*command)
            self.assertEqual(done.returncode, IO_ERROR, done.stderr)
            self.assertIn("out.onnx", done.stderr)
            self.assertEqual(list(self.place.iterdir()), [], "left behind")

    def test_full_disk(self):
        """A file system of one page, in a mount namespace of its own."""
        script = 'mount -t tmpfs -o size=4k octet "$0" || exit 90; "$@"; code=$?; '
        script += 'echo "left: $(ls -A "$0")"; exit $code'
        shell = "unshare --user --map-root-user --mount sh -c".split() + [script, str(self.place)]
        if subprocess.run([*shell, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("no mount namespaces here; test_refused_writes stands in")
        command = [PROGRAM, "quantize", self.model, "--data", self.data, *PRESET, "-o", self.out]
        pipes = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
        done = subprocess.run([*shell, *map(str, command)], check=False, timeout=60, **pipes)
        self.assertEqual(done.returncode, IO_ERROR, done.stderr)
        self.assertIn("out.onnx", done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], "left: ")

    def test_statistics_of_another_model(self):
        statistics = self.folder / "other.safetensors"
        net = Network("other", (3, SIDE, SIDE), seed=10)
        classified = net.classifier(net.relu(net.conv("input", 6, 3)), 4)
        other = self.save(net.model(classified), "other.onnx")
        succeed("calibrate", other, "--data", self.data, *PRESET, "-o", statistics)
        result = self.quantize(None, None, "--stats", statistics)
        self.refused(result, (USAGE, BAD_DATA, BAD_FILE), "other.safetensors")


if __name__ == "__main__":
    unittest.main()
