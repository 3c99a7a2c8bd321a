#!/usr/bin/env python3
"""Runs every check of Octet against one build.

The last line is the sum: N passed, N failed, N skipped.

Groups: house (layers, format, kernel objects), unit (the C++ tests), and one per file in
tests/interop and tests/end_to_end. `--only NAME` (repeatable) takes a group, or group.test;
`--list` names them.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import subprocess
import sys
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parent
FOLDERS = (TESTS, TESTS / "interop", TESTS / "end_to_end")

HOUSE = {
    "layers_self_test": ["tools/check_layers.py", "--self-test"],
    "layers": ["tools/check_layers.py"],
    "kernel_objects": ["tools/check_kernel_objects.sh", "{build}"],
    "format": ["tools/check_format.sh"],
}

# The Python groups, quick ones first.
MODULES = (
    "road",
    "open_sizes",
    "bench_operators",
    "sweep",
    "report",
    "multiplier",
    "invariance",
    "bad_input",
    "node_tests",
    "number_formats",
    "float_parity",
    "formats",
    "transformers",
    "dynamic",
    "efficient",
    "shuffle",
    "qdq_in_ort",
    "linear_layers",
    "real_accuracy",
)


class Report:
    """Prints one line per check, keeps count, and names the failed ones again at the end."""

    def __init__(self):
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.failures = []

    def add(self, state, name, seconds=None, detail="", count=1):
        self.counts[state] += count
        took = "" if seconds is None else f" ({seconds:.1f} s)"
        reason = f": {detail}" if state == "skipped" else ""
        print(f"{state:7} {name}{took}{reason}", flush=True)
        if state == "failed":
            self.failures.append(f"{name}: {last_line(detail)}" if detail else name)
        if state == "failed" and detail:
            print("    " + detail.strip().replace("\n", "\n    "), flush=True)

    def summary(self):
        counts = ", ".join(f"{number} {state}" for state, number in self.counts.items())
        return "\n".join([*(f"failed  {failure}" for failure in self.failures), counts])


def last_line(text):
    return (text.strip().splitlines() or [""])[-1].strip()


def run_house(build, wanted, report):
    for name, command in HOUSE.items():
        if not wanted("house", name):
            continue
        filled = [part.format(build=build) for part in command]
        start = time.monotonic()
        if filled[0].endswith(".py"):
            filled.insert(0, sys.executable)
        try:
            done = subprocess.run(filled, cwd=ROOT, capture_output=True, text=True, check=False)
            failed, output = done.returncode != 0, done.stdout + done.stderr
        except OSError as error:
            failed, output = True, str(error)
        state = "failed" if failed else "passed"
        report.add(state, f"house.{name}", time.monotonic() - start, output if failed else "")


def read_gtest(path, report):
    """Adds the tests of one gtest program; what was skipped is named."""
    results = json.loads(path.read_text(encoding="utf-8"))
    skipped = 0
    for suite in results["testsuites"]:
        for test in suite["testsuite"]:
            name = f"unit.{path.stem}.{suite['name']}.{test['name']}"
            if test.get("result") == "SKIPPED" or test.get("status") == "NOTRUN":
                skipped += 1
                reason = test.get("skipped", [{}])[0].get("message", "").strip().splitlines()
                report.add("skipped", name, detail=reason[-1] if reason else "")
            elif test.get("failures"):
                report.add("failed", name)
    passed = results["tests"] - results["failures"] - skipped
    seconds = float(results["time"].rstrip("s"))
    report.add("passed", f"unit.{path.stem}: {passed} tests", seconds, count=passed)
    return results["failures"]


def run_unit(build, jobs, wanted, report):
    """ctest over the gtest programs; a program that dies before it reports is one failure."""
    if not wanted("unit", ""):
        return
    folder = build / "test_results"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    flags = f"--output-on-failure -j {jobs} --timeout 600".split()
    command = ["ctest", "--test-dir", str(build), *flags]
    environment = os.environ | {"GTEST_OUTPUT": f"json:{folder}/"}
    code = subprocess.run(command, env=environment, check=False).returncode
    failures = sum(read_gtest(path, report) for path in sorted(folder.glob("*.json")))
    if code != 0 and failures == 0:
        report.add("failed", "unit", detail=f"ctest ended with {code}: see above")
    if not any(folder.glob("*.json")):
        report.add("failed", "unit", detail=f"no test program reported from {build}")


class Lines(unittest.TestResult):
    """Hands unittest's results to the report."""

    def __init__(self, report):
        super().__init__()
        self.report = report
        self.start = 0.0

    def startTest(self, test):
        super().startTest(test)
        self.start = time.monotonic()

    def _add(self, state, test, detail=""):
        if isinstance(test, unittest.TestCase):
            module = test.id().partition(".")[0]
            self.report.add(
                state, f"{module}.{short_name(test)}", time.monotonic() - self.start, detail
            )
        else:  # a whole class that could not be set up: "setUpClass (module.Class)"
            self.report.add(state, test.id().partition("(")[2].rstrip(")"), None, detail)

    def addSuccess(self, test):
        self._add("passed", test)

    def addFailure(self, test, err):
        self._add("failed", test, self._exc_info_to_string(err, test))

    def addError(self, test, err):
        self._add("failed", test, self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        self._add("skipped", test, reason)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._add("failed", subtest, self._exc_info_to_string(err, test))


def short_name(test):
    return test.id().rsplit(".", 1)[-1].removeprefix("test_")


def tests_in(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_in(item)
        else:
            yield item


def load(module):
    return list(tests_in(unittest.defaultTestLoader.loadTestsFromName(module)))


def run_python(wanted, report):
    for module in MODULES:
        if not wanted(module, None):
            continue
        chosen = [test for test in load(module) if wanted(module, short_name(test))]
        unittest.TestSuite(chosen).run(Lines(report))


def chooser(only):
    """wanted(group, test): test None asks whether anything of the group may be wanted."""

    def wanted(group, test):
        def fits(pattern):
            head, _, tail = pattern.partition(".")
            if not fnmatch.fnmatch(group, head):
                return False
            return not tail or test is None or fnmatch.fnmatch(test, tail)

        return not only or any(fits(pattern) for pattern in only)

    return wanted


def list_checks():
    for name in HOUSE:
        print(f"house.{name}")
    print("unit")
    for module in MODULES:
        for test in load(module):
            print(f"{module}.{short_name(test)}")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--build", default="build/release", help="the build folder under test")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", action="append", metavar="GROUP[.TEST]", help="patterns allowed")
    parser.add_argument("--list", action="store_true", help="name the checks and stop")
    args = parser.parse_args()

    build = pathlib.Path(args.build).resolve()
    os.environ["OCTET_BUILD"] = str(build)
    sys.path[:0] = [str(folder) for folder in FOLDERS]
    if args.list:
        return list_checks()
    report = Report()
    wanted = chooser(args.only)
    run_house(build, wanted, report)
    run_unit(build, args.jobs, wanted, report)
    run_python(wanted, report)
    if sum(report.counts.values()) == 0:
        report.add("failed", "run.py", detail=f"nothing is called {' or '.join(args.only or [])}")
    print(f"\n{report.summary()}")
    return 1 if report.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
