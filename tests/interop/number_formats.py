"""`octet format` beside ml_dtypes: what every code means, and which code a number gets."""

import math
import tempfile
import unittest

import ml_dtypes
import numpy as np
from octet_program import SCRATCH, USAGE, run, succeed

NAMED = (
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e3m4",
    "float8_e4m3",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float4_e2m1fn",
)
# Formats without NaN: ml_dtypes gives it the code of -0 or 0 by its sign, Octet 0.
WITHOUT_NAN = ("float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")

FLOATS = 100_000_000  # float32 inputs in all


def encode(name, values, *options):
    """The codes Octet gives them."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        np.save(f"{folder}/x.npy", values)
        succeed(
            "format", name, "--encode", f"{folder}/x.npy", "--output", f"{folder}/y.npy", *options
        )
        return np.load(f"{folder}/y.npy")


def sixteen_bit_values():
    """Every bfloat16 and every float16, as float32."""
    patterns = np.arange(65536, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        return np.concatenate(
            [
                patterns.view(ml_dtypes.bfloat16).astype(np.float32),
                patterns.view(np.float16).astype(np.float32),
            ]
        )


class NumberFormats(unittest.TestCase):
    def compare(self, name, values):
        kind = getattr(ml_dtypes, name)
        if name in WITHOUT_NAN:
            values = values[~np.isnan(values)]
        with np.errstate(over="ignore", invalid="ignore"):
            special = values.astype(kind).view(np.uint8)
            largest = np.float32(ml_dtypes.finfo(kind).max)
            saturated = np.clip(values, -largest, largest).astype(kind).view(np.uint8)
        np.testing.assert_array_equal(encode(name, values), saturated, name)
        np.testing.assert_array_equal(encode(name, values, "--no-saturate"), special, name)

    def test_every_code_is_ml_dtypes_value(self):
        for name in NAMED:
            listed = succeed("format", name, "--list", "--json").json["list"]
            kind = getattr(ml_dtypes, name)
            codes = np.arange(len(listed), dtype=np.uint8)
            self.assertEqual(len(listed), 2 ** int(name[5]))
            self.assertEqual([entry["code"] for entry in listed], codes.tolist())
            got = np.array([float(entry["value"]) for entry in listed])
            expected = codes.view(kind).astype(np.float64)
            np.testing.assert_array_equal(got, expected, name)
            zeros = got == 0
            np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(expected[zeros]))

    def test_every_16_bit_float(self):
        values = sixteen_bit_values()
        for name in NAMED:
            self.compare(name, values)

    def test_float32(self):
        share = FLOATS // len(NAMED) + 1
        stride = 2**32 // share
        for i, name in enumerate(NAMED):
            patterns = np.arange(i, 2**32, stride, dtype=np.uint64).astype(np.uint32)
            self.assertGreaterEqual(len(patterns), share)
            self.compare(name, patterns.view(np.float32))

    def test_scale(self):
        """--maxval and --bias only move the grid."""
        values = np.random.default_rng(5).normal(size=10_000).astype(np.float32)
        facts = succeed("format", "e3m4", "--maxval", "2.5", "--json").json
        self.assertTrue(math.isclose(facts["max"], 2.5, rel_tol=1e-7))
        scale = np.float32(facts["scale"])
        np.testing.assert_array_equal(
            encode("e3m4", values, "--maxval", "2.5"), encode("e3m4", values / scale)
        )
        np.testing.assert_array_equal(
            encode("e3m4", values, "--bias", "6"), encode("e3m4", values * np.float32(8))
        )
        np.testing.assert_array_equal(
            encode("int8", values, "--maxval", "2.54"),
            np.clip(np.rint(values / np.float32(0.02)), -128, 127).astype(np.int8),
        )

    def test_what_makes_no_sense_is_refused(self):
        for arguments in (
            ["format"],
            ["format", "e9m9"],
            ["format", "e4m3", "--compare", "e4m3"],
            ["format", "int8", "--bias", "3"],
            ["format", "e4m3", "--bias", "3", "--maxval", "2"],
            ["format", "e4m3", "--maxval", "-1"],
            ["format", "--compare", "e4m3", "--distribution", "student:1"],
            ["format", "--compare", "e4m3", "--clip", "-3"],
            ["format", "--compare", "e4m3", "--alpha", "0"],
            ["format", "e4m3", "--encode", "missing.npy"],
        ):
            result = run(*arguments)
            self.assertEqual(result.code, USAGE, arguments)
            self.assertTrue(result.err.strip(), arguments)


if __name__ == "__main__":
    unittest.main()
