"""The statistics file is the same bytes for every batch size, thread count and way of splitting the
data."""

import unittest

from demo_model import DATA, MODEL, PRESET, fresh_folder
from octet_program import CHECK_FAILED, OK, run, succeed

ROWS = 33  # neither 7 nor 32 divides it: every batch size but 1 ends with a short batch


def calibrate(out, *flags, samples=ROWS, skip=0):
    data = ("--data", DATA, *PRESET, "--samples", samples, "--skip", skip)
    succeed("calibrate", MODEL, *data, *flags, "-o", out)
    return out.read_bytes()


class Invariance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = fresh_folder("invariance")
        cls.expected = calibrate(cls.folder / "one.safetensors", "--batch", 1, "--threads", 1)

    def test_not_empty(self):
        """Other data give other bytes: the comparison can fail."""
        self.assertGreater(len(self.expected), 1000)
        other = calibrate(self.folder / "other.safetensors", samples=ROWS - 1)
        self.assertNotEqual(other, self.expected)

    def test_batch(self):
        for batch in (7, 32):
            path = self.folder / f"batch_{batch}.safetensors"
            self.assertEqual(calibrate(path, "--batch", batch), self.expected, f"batch {batch}")

    def test_threads(self):
        for batch in (1, 7):
            path = self.folder / f"threads_{batch}.safetensors"
            same = calibrate(path, "--threads", 2, "--batch", batch)
            self.assertEqual(same, self.expected, f"2 threads, batch {batch}")

    def test_merged_halves(self):
        first, second = self.folder / "first.safetensors", self.folder / "second.safetensors"
        calibrate(first, samples=16)
        calibrate(second, samples=ROWS - 16, skip=16)
        for number, order in enumerate(((first, second), (second, first))):
            merged = self.folder / f"merged_{number}.safetensors"
            succeed("calibrate", "--merge", *order, "-o", merged)
            self.assertEqual(merged.read_bytes(), self.expected, f"order {number}")

    def test_merge_refuses_strangers(self):
        """A file that holds no statistics is named, and nothing is written."""
        stranger = self.folder / "stranger.safetensors"
        stranger.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
        out = self.folder / "never.safetensors"
        result = run("calibrate", "--merge", self.folder / "one.safetensors", stranger, "-o", out)
        self.assertNotIn(result.code, (OK, CHECK_FAILED))
        self.assertIn("stranger", result.err)
        self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
