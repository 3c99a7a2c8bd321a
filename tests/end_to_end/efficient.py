"""A network of EfficientNet's blocks stays INT8 from its first layer to its last: gates, activation
functions, means, a nearest Resize and a Concat run on codes, and give what the QDQ file says."""

import tempfile
import unittest

import numpy as np
from float_parity import random_input, run_ort
from make_models import make
from octet_program import SCRATCH, run_model, succeed

# Of an INT8 run: the input is quantized, and the rest works on codes.
ON_CODES = {
    "QuantizeLinear", "octet.QConv", "octet.QGemm", "octet.QLookup", "octet.QMul", "octet.QAdd",
    "octet.QGlobalAveragePool", "Resize", "Concat", "Flatten", "reorder",
}


class Efficient(unittest.TestCase):
    def test_stays_int8(self):
        path = make(["efficient"], SCRATCH / "models")["efficient"]
        for target, float_means in (("octet", 0), ("onnxruntime", 1)):
            with tempfile.TemporaryDirectory() as folder:
                data, out = f"{folder}/data.npy", f"{folder}/int8.onnx"
                np.save(data, random_input("efficient", 8))
                succeed("quantize", path, "--data", data, "--allow-noise", "--recipe", "fast",
                        "--target", target, "-o", out)
                succeed("verify", out, "--data", data)
                report = succeed("bench", out, "--steps", "--seconds", "0.02", "--json").json
                operators = [step["op"] for step in report["rows"][0]["steps"]]
                # ONNX Runtime has no mean over the image in INT8 but GlobalAveragePool.
                self.assertEqual(operators.count("ReduceMean"), float_means)
                self.assertLessEqual(set(operators), ON_CODES | {"ReduceMean"}, operators)
                self.assertEqual(operators.count("octet.QMul"), 2, operators)
                # 7 SiLU, 2 gates, x HardSigmoid(x)
                self.assertEqual(operators.count("octet.QLookup"), 10, operators)
                x = {"input": random_input("efficient", 1)}
                int8 = run_model(out, x, folder, "--int8")
                fake = run_ort(out, x)
                for name, want in fake.items():
                    # Codes differ at ties only: a few codes' worth behind them.
                    spread = float(want.max() - want.min())
                    self.assertLessEqual(float(np.abs(int8[name] - want).max()) / spread, 8 / 255)


if __name__ == "__main__":
    unittest.main()
