"""The committed network of demo/, its pictures, and its quantized forms: made once per test
process."""

import functools
import pathlib
import shutil
import tempfile

import octet_program
from octet_program import succeed

MODEL = octet_program.ROOT / "demo/model.onnx"
DATA = octet_program.ROOT / "demo"  # labels.csv and images/
PRESET = ("--preset", "imagenet-tf")
CALIBRATION_ROWS = 64  # the first rows; the others judge


@functools.cache
def scratch():
    """A folder that lives as long as this process."""
    holder = tempfile.TemporaryDirectory(prefix="octet_tests_")
    scratch.holder = holder  # kept alive
    return pathlib.Path(holder.name)


@functools.cache
def quantized(target="onnxruntime"):
    """The demo network quantized by the default recipe for `target`."""
    out = scratch() / f"demo_{target}.onnx"
    calibration = ("--data", DATA, *PRESET, "--samples", CALIBRATION_ROWS)
    succeed("quantize", MODEL, *calibration, "--target", target, "-o", out)
    return out


def fresh_folder(name):
    """An empty folder below scratch()."""
    folder = scratch() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
