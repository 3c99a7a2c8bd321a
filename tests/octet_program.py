"""Runs the octet program, and says where it, its models and the real data are. For every Python
test."""

import dataclasses
import json
import os
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("OCTET_BUILD", ROOT / "build/release")).resolve()
PROGRAM = BUILD / "octet"
SCRATCH = ROOT / "build/tests"  # generated models and cached peers; kept between runs
SCRATCH.mkdir(parents=True, exist_ok=True)

# The documented exit codes (docs/cli.md).
OK, INTERNAL, USAGE, BAD_FILE, UNSUPPORTED, BAD_DATA, IO_ERROR, CHECK_FAILED = range(8)

# A sanitizer's report must not look like a documented exit code; a hostile size is ours to refuse.
os.environ.setdefault("ASAN_OPTIONS", "exitcode=99:allocator_may_return_null=1")
os.environ.setdefault("UBSAN_OPTIONS", "exitcode=99:print_stacktrace=1")


def real_folder():
    """Trained models and photographs for local checks: OCTET_REAL, or ../shared/real; None if
    absent."""
    folder = pathlib.Path(os.environ.get("OCTET_REAL", ROOT.parent / "shared/real"))
    return folder if (folder / "mobilenet_v1_025_224.onnx").exists() else None


def need_real():
    """The folder of real data; skips the test, with the reason, where it is absent."""
    folder = real_folder()
    if folder is None:
        raise unittest.SkipTest("no real models here (set OCTET_REAL to their folder)")
    return folder


@dataclasses.dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def run(*arguments, timeout=600, **environment):
    """Runs octet; whatever its exit code is. A signal or a hang is a failure of the test."""
    command = [str(PROGRAM), *map(str, arguments)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=os.environ | environment,
        check=False,
    )
    if done.returncode < 0 or done.returncode > CHECK_FAILED:
        raise AssertionError(
            f"{' '.join(command)}\n"
            f"  ended with {done.returncode}, which is no documented exit code\n"
            f"{done.stdout[-1000:]}{done.stderr[-3000:]}"
        )
    return Result(done.returncode, done.stdout, done.stderr)


def succeed(*arguments, **settings):
    """Runs octet and requires exit code 0."""
    result = run(*arguments, **settings)
    if result.code != OK:
        raise AssertionError(
            f"octet {' '.join(map(str, arguments))}\n  exit code {result.code}\n"
            f"{result.out[-1000:]}{result.err[-2000:]}"
        )
    return result


def run_model(model, inputs, folder, *flags):
    """`octet run`: inputs {name: array} in, outputs {name: array} back."""
    import numpy as np

    folder = pathlib.Path(folder)
    arguments = []
    for index, (name, array) in enumerate(inputs.items()):
        path = folder / f"input_{index}.npy"
        np.save(path, array)
        arguments += ["--input", f"{name}={path}"]
    listed = succeed(
        "run", model, *arguments, "--output-dir", folder / "out", "--json", *flags
    ).json
    return {
        entry["name"]: np.load(folder / "out" / pathlib.Path(entry["file"]).name)
        for entry in listed
    }
