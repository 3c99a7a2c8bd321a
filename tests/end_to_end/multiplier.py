"""octet multiplier: figures, tables that read back, refusals."""

import unittest

import numpy as np
from octet_program import BAD_FILE, SCRATCH, USAGE, run, succeed

# spec: compensation of E3M4 by three bits of each mantissa, an entry for each pair.
LUT = "00000000/00111210/01122210/01222210/01222110/02221110/01111100/00000000"


class Multiplier(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        SCRATCH.mkdir(parents=True, exist_ok=True)

    def test_list_and_help(self):
        kinds = [kind["kind"] for kind in succeed("multiplier", "--list", "--json").json]
        self.assertEqual(kinds, ["exact", "hw", "v9", "qamaa", "table"])
        for kind in succeed("multiplier", "--list", "--json").json[:-1]:
            succeed("multiplier", kind["example"])
        self.assertIn("Examples:", succeed("multiplier", "--help").out)

    def test_figures(self):
        report = succeed("multiplier", "hw:e3m4,d=3", "--compare", "v9:e3m4,d=3", "--json").json
        self.assertAlmostEqual(report["mantissas"]["rmse_percent"], 1.69, delta=0.0055)
        self.assertEqual(report["mantissas"]["differing"], 4)
        text = succeed("multiplier", "hw:e3m4", "hw:e2m5,d=4", "--compare", "v9:e3m4").out
        self.assertIn("hw:e2m5,d=4", text)

    def test_tables(self):
        text = succeed("multiplier", "hw:e3m4,d=3", "--table", "lut").out
        self.assertEqual("/".join(line.replace(",", "") for line in text.split()), LUT)
        products = {}
        for extension in ("csv", "npy", "h", "hex"):
            path = SCRATCH / f"products.{extension}"
            succeed("multiplier", "v9:e3m4,d=3", "--table", "product", "-o", path)
            products[extension] = path
        table = np.load(products["npy"])
        self.assertEqual(table.shape, (256, 256))
        np.testing.assert_array_equal(np.loadtxt(products["csv"], delimiter=",", dtype=int), table)
        lines = [line for line in products["hex"].read_text().split("\n") if line[:2] != "//"][:-1]
        digits = len(lines[0])
        values = np.array([int(line, 16) for line in lines])
        values[values >= 16**digits // 2] -= 16**digits
        np.testing.assert_array_equal(values.reshape(256, 256), table)
        own = f"table:{products['npy']},x=e3m4,w=e3m4,unit=0.015625"
        report = succeed("multiplier", own, "--compare", "v9:e3m4,d=3", "--json").json
        self.assertEqual(report["codes"]["differing"], 0)

    def test_refusals(self):
        for arguments, word in (
            (("hw:d=3",), "no number format"),
            (("hw:e3m4,d=9",), "0 to 7"),
            (("half",), "unknown kind"),
            (("hw:e3m4", "--table", "G"), "expected F, C"),
            (("v9:e3m4,quant=off,clip=on",), "leaves out"),
            ((), "expected a multiplier"),
        ):
            result = run("multiplier", *arguments)
            self.assertEqual(result.code, USAGE, arguments)
            self.assertIn(word, result.err)
        bad = SCRATCH / "bad.csv"
        bad.write_text("1,2\n")
        self.assertEqual(run("multiplier", f"table:{bad}").code, BAD_FILE)


if __name__ == "__main__":
    unittest.main()
