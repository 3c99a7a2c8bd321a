"""octet multiplier: figures, tables that read back, refusals. Layers with approximate multipliers:
octet verify, and their operands replayed in NumPy."""

import functools
import json
import unittest

import numpy as np
from demo_model import DATA, MODEL, PRESET, fresh_folder, scratch
from octet_program import BAD_FILE, SCRATCH, USAGE, run, succeed

# spec: compensation of E3M4 by three bits of each mantissa, an entry for each pair.
LUT = "00000000/00111210/01122210/01222210/01222110/02221110/01111100/00000000"


class Multiplier(unittest.TestCase):
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


def bytes_of(is_signed):
    codes = np.arange(256)
    return np.where(codes > 127, codes - 256, codes) if is_signed else codes


def e3m4_values():
    """The 256 codes at bias 3."""
    code = np.arange(256)
    exponent, mantissa = code >> 4 & 7, code & 15
    magnitude = np.where(
        exponent > 0, np.exp2(exponent - 3.0) * (1 + mantissa / 16), mantissa / 64
    )
    return np.where(code > 127, -magnitude, magnitude)


@functools.cache
def approximate(name, multiplier, activation="e3m4:bias=int", weight="e3m4:bias=int"):
    """The demo network with an approximate multiplier in every layer."""
    folder = fresh_folder(f"approximate_{name}")
    (folder / "recipe.yaml").write_text(
        f"{{preset: naive, target: octet, activation_format: '{activation}', "
        f"weight_format: '{weight}', multiplier: '{multiplier}'}}"
    )
    data = ("--data", DATA, *PRESET, "--samples", 4)
    succeed("quantize", MODEL, *data, "--recipe", folder / "recipe.yaml", "-o", folder / "q.onnx")
    return folder / "q.onnx"


class Layers(unittest.TestCase):
    DATA = ("--data", DATA, *PRESET, "--samples", 1)

    def replay(self, model, layer, *flags):
        """Sums and results again from the files of --dump; exact products beside them."""
        folder = fresh_folder("operands")
        report = succeed(
            "verify", model, *self.DATA, "--layer", layer, "--dump", folder, "--json", *flags
        ).json
        self.assertTrue(report["holds"])
        about = json.loads((folder / f"{layer}.json").read_text())

        def array(what):
            if flags:
                return np.loadtxt(folder / f"{layer}.{what}.csv", delimiter=",", ndmin=2)
            return np.load(folder / f"{layer}.{what}.npy")

        x, w = array("x").astype(int), array("w").astype(int)
        tables = np.stack([array(f"table{t}") for t in range(about["tables"])]).astype(np.int64)
        of, unit, bias = (array(what).ravel() for what in ("table_of_channel", "unit", "bias"))
        rows, n, k, groups = (about[key] for key in ("rows", "n", "k", "groups"))
        self.assertEqual(x.shape, (rows, groups * k))
        sums = np.empty((rows, n), np.int64)
        for c in range(n):
            begin = c // (n // groups) * k
            sums[:, c] = tables[int(of[c])][x[:, begin : begin + k], w[c]].sum(axis=1)
        if "rounding" not in about:
            np.testing.assert_array_equal(sums, array("sum"))
            y = sums.astype(np.float32) * unit.astype(np.float32) + bias.astype(np.float32)
            np.testing.assert_array_equal(y, array("y").astype(np.float32))
        row = next(row for row in report["products"] if row["node"] == layer)
        self.assertEqual(row["elements"], rows * n)
        return about, row, x, w, array("y") - bias

    def test_every_multiplier_is_its_definition(self):
        for name, multiplier in (
            ("hw", "hw:d=3"),
            ("v9", "v9:d=2"),
            ("each_add", "qamaa:each_add=on"),
        ):
            report = succeed("verify", approximate(name, multiplier), *self.DATA, "--json").json
            self.assertTrue(report["holds"])
            self.assertEqual(len(report["products"]), 25)
            for row in report["products"]:
                self.assertEqual(row["different"], 0, (name, row["node"]))
                self.assertGreater(row["sqnr_db"], 5, (name, row["node"]))
                self.assertGreaterEqual(row["max_error"], abs(row["mean_error"]))
        text = succeed("verify", approximate("hw", "hw:d=3"), *self.DATA).out
        self.assertIn("differ from their definition", text)

    def test_operands_can_be_replayed(self):
        values = e3m4_values()
        for layer, *flags in (("inverted1.depthwise.conv",), ("stem.conv",), ("logits", "--csv")):
            about, row, x, w, products = self.replay(approximate("hw", "hw:d=3"), layer, *flags)
            self.assertEqual(about["multiplier"], "hw:d=3")
            scale = np.array(about["w"]["scale"]) * about["x"]["scale"][0]
            np.testing.assert_array_equal(
                np.exp2(3.0 - np.array(about["w"]["exponent_bias"])), about["w"]["scale"]
            )
            n, k, groups = about["n"], about["k"], about["groups"]
            exact = np.empty(products.shape)
            for c in range(n):
                begin = c // (n // groups) * k
                exact[:, c] = values[x[:, begin : begin + k]] @ values[w[c]]
            exact *= scale
            # float32 results, biases taken off in float32: errors below 2^-23 of the largest.
            error = products - exact
            near = 2.0**-22 * abs(products).max()
            self.assertAlmostEqual(row["mean_error"], error.mean(), delta=near)
            self.assertAlmostEqual(row["max_error"], abs(error).max(), delta=near)
            noise = 10 * np.log10((exact**2).sum() / (error**2).sum())
            self.assertAlmostEqual(row["sqnr_db"], noise, places=2)

    def test_exact_table(self):
        """Products of int8 codes: errors of float32 results alone."""
        table = SCRATCH / "exact_int8.npy"
        np.save(table, np.outer(bytes_of(True), bytes_of(True)))
        model = approximate("int8", f"table:{table},x=int8,w=int8", "int8", "int8-narrow")
        about, row, x, w, _ = self.replay(model, "inverted1.widen.conv")
        self.assertGreater(row["sqnr_db"], 120)
        self.assertEqual(about["x"]["zero_point"], 0)

    def test_zero_points_are_exact(self):
        """A table of exact products of uint8 and int8 is integer arithmetic, padding included."""
        table = SCRATCH / "exact_uint8.npy"
        np.save(table, np.outer(bytes_of(False), bytes_of(True)))
        model = approximate("uint8", f"table:{table},x=uint8,w=int8", "uint8", "int8-narrow")
        for layer in ("stem.conv", "inverted2.widen.conv"):
            about, row, x, w, _ = self.replay(model, layer)
            self.assertGreater(row["sqnr_db"], 120)
            self.assertGreater(about["x"]["zero_point"], 0)
            sums = (x - about["x"]["zero_point"]) @ bytes_of(True)[w].T
            np.testing.assert_array_equal(
                sums, np.load(scratch() / "operands" / f"{layer}.sum.npy")
            )

    def test_no_such_layer(self):
        model = approximate("hw", "hw:d=3")
        folder = SCRATCH / "nothing_dumped"
        result = run("verify", model, *self.DATA, "--layer", "none", "--dump", folder)
        self.assertEqual(result.code, USAGE)
        self.assertIn("stem.conv", result.err)
        self.assertFalse(folder.exists())
        self.assertEqual(run("verify", model, *self.DATA, "--dump", folder).code, USAGE)


class OneCommand(unittest.TestCase):
    """Formats and operators set together on the command line: octet quantize --set."""

    BOTH = "activation_format+weight_format"

    def quantize(self, *settings, target="octet"):
        data = ("--data", DATA, *PRESET, "--samples", 2)
        flags = [flag for text in settings for flag in ("--set", text)]
        out = fresh_folder("set") / "q.onnx"
        return run(
            "quantize", MODEL, *data, "--recipe", "naive", "--target", target, *flags, "-o", out, "--json"
        )

    def test_formats_and_multiplier(self):
        result = self.quantize(
            f"{self.BOTH}=e3m4:bias=int", "multiplier=hw:d=3", "layers.logits.multiplier=exact"
        )
        self.assertEqual(result.code, 0, result.err)
        layers = {layer["node"]: layer for layer in result.json["layers"]}
        self.assertEqual({layer["format"] for layer in layers.values()}, {"e3m4:bias=int"})
        self.assertEqual(layers["logits"]["multiplier"], "exact")
        self.assertEqual(layers["stem.conv"]["multiplier"], "hw:d=3")

    def test_nonsense_is_refused_with_the_reason(self):
        for settings, target, word in (
            (("multiplier=hw:d=3",), "octet", "codes of float formats"),
            ((f"{self.BOTH}=e3m4", "multiplier=hw:d=3"), "octet", "biases must be integers"),
            (
                ("activation_format=e4m3:bias=int", "weight_format=e3m4:bias=int", "multiplier=v9"),
                "octet",
                "same exponent and mantissa bits",
            ),
            ((f"{self.BOTH}=e4m3fn", "multiplier=v9:d=3"), "octet", "no NaN and infinity"),
            (
                (f"{self.BOTH}=e3m4:bias=int", "multiplier=hw:e4m3,d=3"),
                "octet",
                "hw:e4m3,d=3 with activations in e3m4:bias=int and weights in e3m4:bias=int; it is "
                "of e4m3: write hw:d=3",
            ),
            (
                (f"{self.BOTH}=e3m4:bias=int", "layers.stem*.multiplier=hw:e4m3,d=3"),
                "octet",
                "hw:e4m3,d=3 of the rule 'stem*' with activations in e3m4:bias=int",
            ),
            ((f"{self.BOTH}=e3m4",), "onnxruntime", "run with target octet"),
            (("multiplier=table:t.npy,x=e4m3,w=e4m3",), "octet", "the table is of e4m3 by e4m3"),
            (("weight_format=uint8",), "octet", "signed format"),
            (("fold=true",), "octet", "not a recipe key"),
            (("multiplier",), "octet", "has no value"),
            (("alpha=0.5", "alpha=0.6"), "octet", "sets a key again"),
            (("layers.stem=1",), "octet", "incomplete"),
            (("preset=fast",), "octet", "names a preset"),
        ):
            result = self.quantize(*settings, target=target)
            self.assertEqual(result.code, USAGE, settings)
            self.assertIn(word, result.err, settings)
            self.assertNotIn("probe", result.err, settings)

    def test_the_rest_of_the_recipe_stays(self):
        recipe = fresh_folder("set_recipe") / "r.yaml"
        recipe.write_text("{preset: fast, estimator: mse, layers: [{match: 'a*', skip: true}]}")
        printed = succeed(
            "quantize", MODEL, "--recipe", recipe, "--print-recipe", "--set", "alpha = 0.5",
            "--set", "layers.it's.alpha=0.25",
        ).out
        for line in ("estimator: mse", "alpha: 0.5", "smooth: off", "  - match: a*"):
            self.assertIn(line + "\n", printed)
        self.assertIn("it", printed.split("match: a*")[1])


if __name__ == "__main__":
    unittest.main()
