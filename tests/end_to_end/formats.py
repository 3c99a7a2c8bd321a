"""Recipes in other number formats than INT8: what they write runs, in ONNX Runtime too where the
format is a standard one, and what makes no sense is refused."""

import unittest

import numpy as np
import onnx
import onnxruntime as ort
from demo_model import CALIBRATION_ROWS, DATA, MODEL, PRESET, fresh_folder
from image_data import PRESETS, read_image
from octet_program import USAGE, run, succeed


def quantize_by(folder, recipe, *arguments):
    """Writes the demo network quantized by a recipe's text; the path, and the program's result."""
    path = folder / "recipe.yaml"
    path.write_text(recipe, encoding="utf-8")
    out = folder / "quantized.onnx"
    data = ("--data", DATA, *PRESET, "--samples", 16)
    return out, succeed("quantize", MODEL, *data, "--recipe", path, "-o", out, *arguments)


def quantize(folder, recipe):
    """The path alone."""
    return quantize_by(folder, recipe)[0]


def quantized_report(folder, recipe):
    """What the program says of it."""
    return quantize_by(folder, recipe, "--json")[1].json


def metrics(model):
    """Against the float model, on rows that did not calibrate."""
    data = ("--data", DATA, *PRESET, "--skip", CALIBRATION_ROWS, "--samples", 64)
    return succeed("eval", model, "--against", MODEL, *data, "--json").json


def recipe_of(activation, weight, *more):
    return "\n".join(
        ("preset: fast", f"activation_format: {activation}", f"weight_format: {weight}", *more)
    )


class Formats(unittest.TestCase):
    def test_float8_in_onnx_runtime(self):
        """Standard files: checked by onnx, loaded by ONNX Runtime as it comes, the same codes.

        Sums are added in another order, so some lie on the other side of a rounding tie: as for
        INT8 (qdq_in_ort.py), at least 99.5 % of the quantized values must be equal. A step of E5M2
        is a quarter of the value at most: no value is off by more than one.
        """
        for name in ("float8_e4m3fn", "float8_e5m2"):
            folder = fresh_folder(name)
            path = quantize(folder, recipe_of(name, name))
            model = onnx.load(str(path))
            onnx.checker.check_model(model, full_check=True)
            self.assertGreaterEqual(model.opset_import[0].version, 19)
            audit = succeed("audit", path, "--target", "onnxruntime").out
            self.assertIn(f"input 0 is {name}, expected uint8 or int8", audit)
            constants = {tensor.name for tensor in model.graph.initializer}
            quantized = {n.input[0]: n.output[0] for n in model.graph.node
                         if n.op_type == "DequantizeLinear" and n.input[0] not in constants}
            values = list(quantized.values())
            model.graph.output.extend(
                onnx.helper.make_tensor_value_info(v, onnx.TensorProto.FLOAT, None) for v in values
            )
            exposed = folder / "exposed.onnx"
            onnx.save(model, exposed)
            session = ort.InferenceSession(str(exposed), providers=["CPUExecutionProvider"])
            feed = session.get_inputs()[0]
            image = read_image(min((DATA / "images").glob("*.jpg")), PRESETS["imagenet-tf"])[None]
            np.save(folder / "x.npy", image)
            succeed("run", exposed, "--input", f"{feed.name}={folder / 'x.npy'}", "--output-dir",
                    folder)
            theirs = dict(zip(values, session.run(values, {feed.name: image})))
            equal = total = 0
            for value, expected in theirs.items():
                got = np.load(folder / f"{value}.npy")
                equal += np.count_nonzero(got == expected)
                total += got.size
                step = 0.25 * np.maximum(np.abs(got), np.abs(expected)) + np.abs(expected).max() / 256
                self.assertTrue(np.all(np.abs(got - expected) <= step), (name, value))
            self.assertGreaterEqual(equal / total, 0.995, name)

    def test_accuracy_follows_the_mantissa(self):
        """A network of Relu and convolutions wants mantissa bits: spec/fp8.md 10.3."""
        kl = {}
        for name in ("e5m2", "e4m3", "e3m4", "e2m5"):
            recipe = recipe_of(name, name, "target: octet")
            kl[name] = metrics(quantize(fresh_folder(name), recipe))["kl"]
        self.assertLess(kl["e2m5"], kl["e4m3"], kl)
        self.assertLess(kl["e3m4"], kl["e4m3"], kl)
        self.assertLess(kl["e4m3"], kl["e5m2"], kl)

    def test_search_is_no_worse_than_one_format(self):
        one = metrics(quantize(fresh_folder("one"), recipe_of("e4m3", "e4m3", "target: octet")))
        choice = "search:uint8,e4m3,e2m5", "search:int8,e4m3,e2m5"
        folder = fresh_folder("search")
        path = quantize(folder, recipe_of(*choice, "target: octet"))
        self.assertLess(metrics(path)["kl"], one["kl"])
        report = succeed(
            "quantize", MODEL, "--data", DATA, *PRESET, "--samples", 16, "--recipe",
            folder / "recipe.yaml", "-o", folder / "again.onnx", "--json",
        ).json
        self.assertGreater(len({a["format"] for a in report["activations"]}), 1)
        self.assertTrue(all(layer["format"] for layer in report["layers"]))

    def test_formats_of_single_layers(self):
        recipe = recipe_of(
            "e3m4", "e3m4", "target: octet", "layers:", "  - match: '*'",
            "    weight_format: int4", "    weight_estimator: mse",
        )
        model = onnx.load(str(quantize(fresh_folder("rules"), recipe)))
        formats = {
            attribute.s.decode()
            for node in model.graph.node
            for attribute in node.attribute
            if attribute.name == "format"
        }
        self.assertEqual(formats, {"e3m4", "int4"})

    def test_integers_of_other_widths(self):
        for activation, weight in (("uint6", "int6"), ("uint12", "int12"), ("int8", "e4m3")):
            recipe = recipe_of(activation, weight, "target: octet")
            got = metrics(quantize(fresh_folder(activation), recipe))
            self.assertGreater(got["agreement"], 0.5, (activation, weight, got))

    def test_a_vote_of_channels(self):
        """All splits of eight bits: what most channels of a weight err least in."""
        folder = fresh_folder("vote")
        recipe = recipe_of("vote:e4m3", "vote:e4m3", "target: octet", "weight_estimator: mse")
        report = quantized_report(folder, recipe)
        formats = {layer["format"] for layer in report["layers"]}
        formats |= {activation["format"] for activation in report["activations"]}
        self.assertTrue(formats <= {f"e{7 - m}m{m}" for m in range(1, 7)}, formats)
        self.assertTrue(formats <= {"e3m4", "e2m5", "e1m6"}, formats)  # spec/fp8.md 10.3

    def test_every_estimator(self):
        """Each is taken, and names itself; squared error finds less of it than the whole range."""
        kl = {}
        for estimator in ("minmax", "mse", "mse-2d", "golden-section", "line-search"):
            weights = "minmax" if estimator == "mse-2d" else estimator
            recipe = recipe_of("uint4", "int4", "target: octet", f"estimator: {estimator}",
                               f"weight_estimator: {weights}")
            folder = fresh_folder("estimator")
            report = quantized_report(folder, recipe)
            methods = {activation["method"] for activation in report["activations"]}
            self.assertEqual(methods, {estimator})
            kl[estimator] = metrics(folder / "quantized.onnx")["kl"]
        for estimator in ("mse", "mse-2d", "golden-section", "line-search"):
            self.assertLess(kl[estimator], kl["minmax"], kl)

    def test_cross_entropy_of_logits(self):
        recipe = recipe_of("uint8", "int8", "target: octet", "quantize_outputs: true", "layers:",
                           "  - {match: logits, estimator: cross-entropy}")
        folder = fresh_folder("logits")
        report = quantized_report(folder, recipe)
        methods = {a["value"]: a["method"] for a in report["activations"]}
        self.assertEqual(methods["logits"], "cross-entropy")
        self.assertEqual({m for v, m in methods.items() if v != "logits"}, {"minmax"})
        self.assertGreater(metrics(folder / "quantized.onnx")["agreement"], 0.9)

    def test_layers_that_read_or_weigh_float32(self):
        """The setups of spec/fp8.md 4.3: the picture as it comes, logits quantized or not, 4 bits."""
        recipe = recipe_of("e3m4", "e3m4", "target: octet", "quantize_outputs: true", "layers:",
                           "  - {match: stem.conv, activation_format: float32}",
                           "  - {match: logits, weight_format: int4}")
        report = quantized_report(fresh_folder("setup"), recipe)
        values = {a["value"] for a in report["activations"]}
        self.assertNotIn("input", values)
        self.assertIn("logits", values)
        formats = {layer["node"]: layer["format"] for layer in report["layers"]}
        self.assertEqual((formats["stem.conv"], formats["logits"]), ("e3m4", "int4"))
        recipe = recipe_of("int8", "float32", "target: octet", "placement: compute")
        report = quantized_report(fresh_folder("activations"), recipe)
        self.assertFalse(report["layers"])
        everywhere = quantized_report(fresh_folder("full"), recipe_of("int8", "int8"))
        self.assertLess(len(report["activations"]), len(everywhere["activations"]))

    def test_flexible_biases(self):
        """An integer bias has a scale that is a power of two; the fork's may clip less."""
        kl = {}
        for rule in ("", ":bias=int", ":bias=int-round"):
            name = f"e2m5{rule}"
            folder = fresh_folder("bias" + rule.replace(":", "_"))
            path = quantize(folder, recipe_of(name, name, "target: octet"))
            kl[rule] = metrics(path)["kl"]
            if not rule:
                continue
            model = onnx.load(str(path))
            for tensor in model.graph.initializer:
                if tensor.name.endswith("_scale"):
                    mantissa, _ = np.frexp(onnx.numpy_helper.to_array(tensor))
                    self.assertTrue(np.all(mantissa == 0.5), tensor.name)
        self.assertLess(kl[""], kl[":bias=int"] + 0.01, kl)

    def test_layers_are_analyzed(self):
        """Each mantissa bit is worth about 6 dB (spec/fp8.md 10.2): two of them, over all layers."""
        sqnr = {}
        for name in ("e4m3", "e2m5", "e2m5:bias=int"):
            more = ("multiplier: qamaa",) if ":" in name else ()
            recipe = recipe_of(name, name, "target: octet", "bias_correction: none", *more)
            path = quantize(fresh_folder("analyzed"), recipe)
            report = succeed("analyze", MODEL, path, "--data", DATA, *PRESET, "--samples", 4, "--json")
            layers = report.json["layers"]
            self.assertGreater(len(layers), 10, name)
            sqnr[name] = float(np.median([layer["local_sqnr_db"] for layer in layers]))
        self.assertGreater(sqnr["e2m5"], sqnr["e4m3"] + 6, sqnr)
        self.assertLess(sqnr["e2m5:bias=int"], sqnr["e2m5"], sqnr)

    def test_refusals(self):
        folder = fresh_folder("refused")
        for recipe, words in (
            (recipe_of("e4m3", "e4m3"), ("target onnxruntime", "e4m3", "target octet")),
            (recipe_of("float8_e5m2", "int8", "target: tensorrt"), ("TensorRT", "float8_e4m3fn")),
            (recipe_of("uint8", "uint8", "target: octet"), ("weight_format uint8", "signed")),
            (recipe_of("e9m3", "int8"), ("e9m3", "number format")),
            (recipe_of("search:e4m3", "int8", "target: octet"), ("search:e4m3", "one format")),
            (recipe_of("ue4m4", "e4m3", "target: octet"), ("ue4m4", "cannot hold")),
            (recipe_of("vote:int8", "int8", "target: octet"), ("vote:int8", "no mantissa")),
            (recipe_of("int8", "int8", "estimator: mse-2d"), ("mse-2d", "zero point")),
            (recipe_of("int8", "int8", "weight_estimator: entropy"), ("entropy", "too few")),
            (
                recipe_of("int8", "int8", "layers:",
                          "  - {match: stem.conv, estimator: cross-entropy}"),
                ("stem.conv", "logits"),
            ),
        ):
            path = folder / "recipe.yaml"
            path.write_text(recipe, encoding="utf-8")
            result = run(
                "quantize", MODEL, "--data", DATA, *PRESET, "--samples", 4, "--recipe", path, "-o",
                folder / "no.onnx",
            )
            self.assertEqual(result.code, USAGE, result.err)
            for word in words:
                self.assertIn(word, result.err)
            self.assertFalse((folder / "no.onnx").exists())


class Multipliers(unittest.TestCase):
    def test_a_multiplier_without_error_is_the_exact_one(self):
        """v9 compensated in full, products not rounded: sums of exact products. What is left are
        float32 sums against integer ones, and codes that fall on two sides of a tie."""
        kl = []
        for more in ((), ("multiplier: 'v9:d=3,quant=off'",)):
            recipe = recipe_of("e4m3:bias=int", "e4m3:bias=int", "target: octet", *more)
            kl.append(metrics(quantize(fresh_folder("v9"), recipe))["kl"])
        self.assertAlmostEqual(kl[0], kl[1], delta=0.02 * kl[0])

    def test_a_table_of_products(self):
        """A user's table of int8 products is INT8."""
        folder = fresh_folder("table")
        code = np.arange(256).astype(np.int8).astype(np.int64)
        np.save(folder / "products.npy", np.outer(code, code))
        table = f"multiplier: 'table:{folder / 'products.npy'},x=int8,w=int8'"
        kl = []
        for more in ((), (table,)):
            recipe = recipe_of("int8", "int8-narrow", "target: octet", *more)
            path = quantize(fresh_folder("by_table" if more else "exact"), recipe)
            kl.append(metrics(path)["kl"])
            operators = {node.op_type for node in onnx.load(str(path)).graph.node}
            self.assertEqual("ApproxConv" in operators, bool(more))
        self.assertAlmostEqual(kl[0], kl[1], delta=0.02 * kl[0] + 1e-4)

    def test_products_keep_their_small_ones(self):
        """On the range of exact sums, products fall below the format: a smaller range is found."""
        kl, scales = [], []
        for result_range in ("minmax", "search"):
            recipe = recipe_of(
                "e3m4:bias=int", "e3m4:bias=int", "target: octet", "multiplier: 'v9:d=3'",
                f"result_range: {result_range}",
            )
            folder = fresh_folder("products")
            layers = quantized_report(folder, recipe)["layers"]
            scales.append([layer["result_scale"] for layer in layers])
            kl.append(metrics(folder / "quantized.onnx")["kl"])
        self.assertLess(kl[1], kl[0])
        self.assertTrue(all(0 < found <= whole for whole, found in zip(*scales)))
        self.assertNotEqual(*scales)

    def test_compensation_helps(self):
        kl = []
        for d in (0, 3):
            multiplier = f"multiplier: 'hw:d={d},overflow=unbounded,underflow=gradual'"
            recipe = recipe_of("e3m4:bias=int", "e3m4:bias=int", "target: octet", multiplier)
            kl.append(metrics(quantize(fresh_folder(f"hw{d}"), recipe))["kl"])
        self.assertLess(kl[1], kl[0])

    def test_refusals(self):
        folder = fresh_folder("refused")
        for recipe, words in (
            (recipe_of("e4m3", "e4m3", "target: octet", "multiplier: hw"), ("integers", "bias=int")),
            (recipe_of("uint8", "int8", "target: octet", "multiplier: hw"), ("float formats",)),
            (recipe_of("uint8", "int8", "multiplier: hw"), ("target onnxruntime", "exact")),
            (
                recipe_of("e4m3:bias=int", "e3m4:bias=int", "target: octet", "multiplier: qamaa"),
                ("same exponent and mantissa",),
            ),
            (recipe_of("int8", "int8", "target: octet", "multiplier: magic"), ("magic",)),
        ):
            path = folder / "recipe.yaml"
            path.write_text(recipe, encoding="utf-8")
            result = run(
                "quantize", MODEL, "--data", DATA, *PRESET, "--samples", 4, "--recipe", path, "-o",
                folder / "no.onnx",
            )
            self.assertEqual(result.code, USAGE, result.err)
            for word in words:
                self.assertIn(word, result.err)


if __name__ == "__main__":
    unittest.main()
