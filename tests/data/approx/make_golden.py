#!/usr/bin/env python3
"""Packs golden vectors of approximate multiplication into golden.bin, beside this file.

Usage: make_golden.py GOLDEN_FOLDER (its README.txt says what the vectors are). Large sets are
thinned: one row in so many. The tests read all of them where the folder is at hand.

golden.bin: per array a line "name type dims...\n" (types u1, i1, f4), then its bytes, little-endian.
"""

import csv
import pathlib
import struct
import sys

ROWS_TAKEN = {  # file: take one row in
    "mul_E3M4_comp3_s2_q_exhaustive": 3,
    "mul_E3M4_nocomp_s2_q_exhaustive": 3,
    "mul_main_s2_q": 6,
    "mul_main_s2_noq": 6,
    "mul_main_nn_only_q": 6,
    "mul_main_nn_only_noq": 6,
    "hwadd_v2": 3,
}
FORMAT_LETTER = {"u1": "B", "i1": "b", "f4": "f"}


def matrix(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [[float(cell) for cell in row] for row in csv.reader(file)]


def write(out, name, kind, rows):
    flat = [cell for row in rows for cell in row]
    out.write(f"{name} {kind} {len(rows)} {len(rows[0])}\n".encode())
    if kind != "f4":
        flat = [int(cell) for cell in flat]
    out.write(struct.pack(f"<{len(flat)}{FORMAT_LETTER[kind]}", *flat))


def write_products(out, path, every):
    """Rows of one configuration after another: NAME.config i1, NAME.codes u1 (configuration's
    index, x, w), NAME.value f4."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    other = ("x_code", "y_code", "x", "y", "exact", "int_sum", "approx")
    columns = [c for c in rows[0] if c not in other]
    configs, codes, values = {}, [], []
    for row in rows[::every]:
        config = tuple(int(row[c]) for c in columns)
        index = configs.setdefault(config, len(configs))
        codes.append([index, int(row["x_code"]), int(row["y_code"])])
        values.append([float(row["approx"])])
    write(out, f"{path.stem}.config", "i1", list(configs))
    write(out, f"{path.stem}.codes", "u1", codes)
    write(out, f"{path.stem}.value", "f4", values)


def main():
    golden = pathlib.Path(sys.argv[1])
    with open(pathlib.Path(__file__).with_name("golden.bin"), "wb") as out:
        for name, every in ROWS_TAKEN.items():
            write_products(out, golden / f"{name}.csv", every)
        for pattern in ("err_E*.csv", "comp_E*.csv"):
            for path in sorted(golden.glob(pattern)):
                write(out, path.stem, "i1", matrix(path))
        for prefix in ("mm_E*", "qamaa_E*", "conv3x3_?", "conv1x1_?", "depthwise_?"):
            for path in sorted(golden.glob(prefix + ".csv")):
                write(out, path.stem, "f4", matrix(path))


if __name__ == "__main__":
    main()
