#!/usr/bin/env python3
"""Checks the rules of the house that a compiler does not: what may include what, and how sources
look.

Includes point down only (docs/architecture.md): a file may include its own layer and layers of
lower rank; layers of equal rank do not know each other. Prints one line per fault and exits 1 if
there is any. `--self-test` builds small trees with one fault each and fails where a fault goes
unseen.
"""

import argparse
import pathlib
import re
import sys
import tempfile

# Layer -> rank. A folder under src/ without a row here is a fault.
RANKS = {
    "base": 0,
    "numerics": 1,
    "tensor": 2,
    "kernels": 3,
    "cuda": 3,
    "graph": 3,
    "files": 4,
    "passes": 4,
    "calibrate": 4,
    "models": 4,
    "runtime": 5,
    "quantize": 6,
    "evaluate": 6,
    "sweep": 6,
    "api": 6.5,
    "report": 6.5,
}

# The lowest rank that may include a public header (plain values lie low); those not listed are
# api's.
PUBLIC_RANKS = {
    "error.h": 0,
    "formats.h": 1,
    "approx.h": 3,
    "kernels.h": 3,
    "data.h": 4,
    "recipe.h": 4,
    "results.h": 4,
    "sweep.h": 6,
    "views.h": 6,
    "report.h": 6.5,
}

# Folders that stand on the library as its users do.
OUTSIDE = ("cli", "python", "examples")

# Libraries that only these places may include; what is not listed is free.
OWNERS = {
    "omp.h": ("base",),
    "openssl/": ("base",),
    "onnx/": ("files", "fuzz"),
    "google/protobuf/": ("files", "fuzz"),
    "jpeglib.h": ("files",),
    "png.h": ("files",),
    "dnnl": ("runtime", "evaluate"),  # a peer in octet bench
    "oneapi/": ("runtime", "evaluate"),
    "yaml-cpp/": ("quantize", "sweep"),
    "sqlite3.h": ("sweep",),
    "CLI/": ("cli",),
    "fmt/": ("cli",),
    "spdlog/": ("cli",),
}

MAX_LINES = 800
SOURCES = (".cc", ".h", ".inc", ".cu", ".cuh")
TEXTS = SOURCES + (".py", ".sh", ".cmake", ".txt", ".md", ".json", ".yaml", ".js", ".css", "")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
ISA_FILE = re.compile(r"_(avx2|avxvnni|avx512\w*|amx\w*|neon\w*)\.(?:cc|h)$")
C_HEADER = re.compile(r"^(\w+\.h|c(assert|math|stddef|stdint|string))$")
# Written in pieces, so that this file does not accuse itself.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATH = re.compile(r"(?<![\w.\-*$}])/(?:work|home|root|Users)/\w")


def files_of(root):
    """Every file of the project that people wrote, as (path, relative posix path)."""
    skipped = {".git", "build", "out", ".venv", "__pycache__", "corpus", "fuzz_found"}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if not skipped.intersection(relative.parts) and path.is_file() and not path.is_symlink():
            yield path, relative.as_posix()


def place_of(relative):
    """The layer of a file under src/, or its first folder ('cli', 'include', 'tests', ...)."""
    parts = relative.split("/")
    return parts[1] if parts[0] == "src" and len(parts) > 2 else parts[0]


def points_down(place, target):
    """True if a file of the layer `place` may include `target`, which is in a layer or public."""
    folder, _, rest = target.partition("/")
    if folder == "octet":
        return PUBLIC_RANKS.get(rest, RANKS["api"]) <= RANKS[place]
    return folder == place or RANKS[folder] < RANKS[place]


def check_library(relative, place, target):
    for prefix, owners in OWNERS.items():
        if target.startswith(prefix) and place not in owners:
            return f"{relative}: includes <{target}>, which belongs to {' and '.join(owners)}"
    name = relative.rsplit("/", 1)[-1]
    is_test = name.endswith("_test.cc") or name.startswith("test_") or place == "tests"
    if target.startswith(("gtest/", "gmock/")) and not is_test:
        return f"{relative}: includes <{target}>, but is no test"
    return None


# What kernel files of every ISA may include, held to the same rule: nothing in them has external
# linkage.
LEAF_HEADER = re.compile(r"^kernels/((\w+_)?abi|float_\w+|dense_rows|approx_lines|approx_each_add)\.h$")
# Levels whose CPUs have the other level's instructions, too.
IMPLIED_ISA = {"amxint8": "avx512vnni", "avxvnni": "avx2", "avx512vbmi": "avx512vnni"}


def is_leaf(relative):
    if not relative.startswith("src/kernels/"):
        return False
    return bool(ISA_FILE.search(relative) or LEAF_HEADER.match(relative.removeprefix("src/")))


def check_leaf_include(relative, quote, target):
    theirs, ours = ISA_FILE.search(target), ISA_FILE.search(relative)
    if theirs and ours and theirs.group(1) in (ours.group(1), IMPLIED_ISA.get(ours.group(1))):
        return None
    if quote == '"' and LEAF_HEADER.match(target):
        return None
    if quote == "<" and C_HEADER.match(target):
        return None
    return (
        f"{relative}: includes {target}; a kernel file of one ISA, or a header such files share, "
        "includes such headers, files of its ISA and C headers only"
    )


def check_include(relative, quote, target):
    """The fault of one include, or None."""
    place = place_of(relative)
    if is_leaf(relative):
        return check_leaf_include(relative, quote, target)
    if quote == "<" and not target.startswith("octet/"):
        return check_library(relative, place, target)
    folder = target.partition("/")[0]
    public = folder == "octet"
    if relative.startswith("include/"):
        return (
            None
            if public
            else f"{relative}: a public header includes {target}, which is not public"
        )
    if place in OUTSIDE or (place == "bench" and "model" in relative):
        inside = folder in RANKS
        return f"{relative}: includes {target}; it may see include/octet only" if inside else None
    if place not in RANKS or not relative.startswith("src/"):
        return None
    if not public and folder not in RANKS:
        return f'{relative}: includes "{target}", which is in no layer'
    if not points_down(place, target):
        return f"{relative}: includes {target}, which is not below {place} (rank {RANKS[place]:g})"
    return None


def check_text(relative, lines):
    faults = []
    if len(lines) > MAX_LINES and not relative.endswith((".json", ".txt", ".md")):
        faults.append(f"{relative}: {len(lines)} lines; at most {MAX_LINES}")
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            faults.append(f"{relative}:{number}: unfinished work is marked in the source")
        if MACHINE_PATH.search(line):
            faults.append(f"{relative}:{number}: a path of one machine")
    return faults


def check_file(path, relative):
    if path.name == "LICENSE" or path.suffix not in TEXTS:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return [] if path.suffix not in SOURCES else [f"{relative}: is not UTF-8"]
    faults = check_text(relative, lines)
    if path.suffix in SOURCES:
        for line in lines:
            match = INCLUDE.match(line)
            fault = match and check_include(relative, *match.groups())
            if fault:
                faults.append(fault)
    return faults


def check_folders(root):
    """Unknown layers, and layers that docs/architecture.md does not name."""
    faults = []
    architecture = root / "docs/architecture.md"
    text = architecture.read_text(encoding="utf-8") if architecture.exists() else None
    for path in sorted((root / "src").iterdir()):
        if path.is_file():
            faults.append(f"src/{path.name}: a file outside every layer")
        elif path.name not in RANKS:
            faults.append(
                f"src/{path.name}: an unknown layer; give it a rank in tools/check_layers.py"
            )
        elif (
            text is not None
            and any(path.rglob("*.cc"))
            and not re.search(rf"\b{path.name}\b", text)
        ):
            faults.append(f"src/{path.name}: docs/architecture.md does not name it")
    return faults


def check_tree(root):
    faults = check_folders(root)
    count = 0
    for path, relative in files_of(root):
        faults += check_file(path, relative)
        count += path.suffix in SOURCES
    return faults, count


CLEAN_TREE = {
    "include/octet/error.h": "#include <string>\n",
    "include/octet/kernels.h": '#include "octet/error.h"\n',
    "include/octet/octet.h": '#include "octet/error.h"\n',
    "src/base/error.h": '#include "octet/error.h"\n',
    "src/base/parallel.cc": '#include <omp.h>\n#include "base/error.h"\n',
    "src/graph/graph.cc": '#include "base/error.h"\n',
    "src/kernels/gemm_avx2.cc": '#include <cstdint>\n#include "kernels/abi.h"\n',
    "src/kernels/conv_avx2.cc": '#include "kernels/tile_avx2.h"\n',
    "src/kernels/conv_avxvnni.cc": '#include "kernels/tile_avx2.h"\n#include "kernels/row_abi.h"\n',
    "src/kernels/gemm.cc": '#include "octet/kernels.h"\n',
    "src/files/read.cc": '#include <onnx/onnx_pb.h>\n#include "graph/graph.h"\n',
    "src/files/read_test.cc": '#include <gtest/gtest.h>\n#include "files/read.h"\n',
    "src/files/test_folder.h": "#include <gtest/gtest.h>\n",
    "src/api/octet.cc": '#include "octet/octet.h"\n#include "runtime/executor.h"\n',
    "cli/main.cc": '#include <CLI/CLI.hpp>\n#include "octet/octet.h"\n#include "cli/table.h"\n',
    "docs/architecture.md": "base graph kernels files api\n",
}

# What is written into the clean tree, and a word of the fault it must give.
VIOLATIONS = [
    ("src/base/up.cc", '#include "tensor/tensor.h"\n', "not below base"),
    ("src/graph/sibling.cc", '#include "kernels/abi.h"\n', "not below graph"),
    ("src/files/sibling.cc", '#include "passes/fold.h"\n', "not below files"),
    ("src/files/up_test.cc", '#include "runtime/executor.h"\n', "not below files"),
    ("src/graph/api.cc", '#include "octet/octet.h"\n', "not below graph"),
    ("src/kernels/a_avx2.cc", '#include "kernels/pack.h"\n', "one ISA"),
    ("src/kernels/a_avx512vnni.cc", "#include <vector>\n", "one ISA"),
    ("src/kernels/a_avx512vnni.cc", '#include "kernels/tile_avx2.h"\n', "one ISA"),
    ("src/kernels/tile_avx2.h", '#include "kernels/pack.h"\n', "one ISA"),
    ("src/kernels/a_avx2.cc", '#include "kernels/tile_avxvnni.h"\n', "one ISA"),
    ("src/kernels/row_abi.h", "#include <vector>\n", "one ISA"),
    ("src/base/lost.cc", '#include "nowhere/x.h"\n', "in no layer"),
    ("src/base/onnx.cc", "#include <onnx/onnx_pb.h>\n", "belongs to files"),
    ("src/graph/omp.cc", "#include <omp.h>\n", "belongs to base"),
    ("src/graph/x.cc", "#include <gtest/gtest.h>\n", "is no test"),
    ("src/misc/x.cc", "", "unknown layer"),
    ("src/x.cc", "", "outside every layer"),
    ("src/tensor/x.cc", "", "does not name it"),
    ("include/octet/bad.h", '#include "graph/graph.h"\n', "not public"),
    ("cli/bad.cc", '#include "graph/graph.h"\n', "include/octet only"),
    ("python/bad.cc", '#include "runtime/executor.h"\n', "include/octet only"),
    ("bench/model_bench.cc", '#include "runtime/executor.h"\n', "include/octet only"),
    ("src/base/long.cc", "\n" * (MAX_LINES + 1), "at most"),
    ("src/base/later.cc", "// TO" + "DO: later\n", "unfinished"),
    ("tools/x.py", "open('/" + "root/x')\n", "one machine"),
]


def write_tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def self_test():
    """Each violation must be seen, alone; the clean tree must be clean."""
    cases = [(None, "", "")] + VIOLATIONS
    wrong = []
    for name, text, word in cases:
        with tempfile.TemporaryDirectory() as scratch:
            root = pathlib.Path(scratch)
            write_tree(root, CLEAN_TREE | ({name: text} if name else {}))
            faults, _ = check_tree(root)
        if name is None and faults:
            wrong.append(f"the clean tree is accused: {faults}")
        elif name and (len(faults) != 1 or word not in faults[0]):
            wrong.append(f"{name}: expected one fault with '{word}', got {faults}")
    for line in wrong:
        print(f"check_layers --self-test: {line}")
    if not wrong:
        print(f"check_layers --self-test: {len(VIOLATIONS)} violations seen")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--self-test", action="store_true", help="prove that faults are seen")
    parser.add_argument(
        "root",
        nargs="?",
        default=pathlib.Path(__file__).resolve().parents[1],
        type=pathlib.Path,
        help="the repository (default: the one this file is in)",
    )
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    faults, count = check_tree(args.root)
    for fault in faults:
        print(fault)
    print(f"check_layers: {count} sources, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
