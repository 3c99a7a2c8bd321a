"""octet sweep: what it computes does not depend on how it is run, and nothing is lost to a kill."""

import csv
import io
import os
import shutil
import signal
import sqlite3
import subprocess
import time
import unittest

import numpy as np
from demo_model import DATA, MODEL, fresh_folder
from octet_program import BAD_FILE, CHECK_FAILED, PROGRAM, ROOT, USAGE, run, succeed

EXAMPLE = ROOT / "examples/demo_sweep.yaml"
EXAMPLE_POINTS = 8 + 7 + 2
HEAD = f"""
models: [{{path: {MODEL}, name: demo}}]
data:
  path: {DATA}
  preset: imagenet-tf
  calibration: {{samples: 8}}
  evaluation: {{skip: 64, samples: 16}}
metrics: [top1, kl]
analyze: 2
"""


def write(name, text):
    folder = fresh_folder(name)
    path = folder / "sweep.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    return folder, path


def rows_of(database):
    """All of the points that a clock does not decide, by id."""
    connection = sqlite3.connect(database)
    points = connection.execute(
        "SELECT id, kind, ordinal, label, recipe, status, error, views_before, views_after,"
        " macs_int8_fraction FROM points ORDER BY id"
    ).fetchall()
    tables = [
        connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
        for table in ("metrics", "layers", "ranges", "smoothing", "views")
    ]
    connection.close()
    return points, tables


def count(database):
    """Points in a database that may not be there yet."""
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
        (number,) = connection.execute(
            "SELECT count(*) FROM points WHERE kind = 'point'"
        ).fetchone()
        connection.close()
        return number
    except sqlite3.OperationalError:
        return 0


def start_and_kill(arguments, database, at_least):
    """Runs octet until the database holds so many points; then kill -9."""
    process = subprocess.Popen(
        [str(PROGRAM), *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    limit = time.monotonic() + 300
    while count(database) < at_least and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    return process.wait()


class Sweep(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """The example, killed twice and resumed."""
        cls.folder = fresh_folder("sweep_example")
        cls.database = cls.folder / "sweep.db"
        arguments = ("sweep", EXAMPLE, "-o", cls.folder, "--resume", "--csv", cls.folder / "p.csv")
        cls.codes = [start_and_kill(arguments, cls.database, n) for n in (3, 9)]
        cls.before = count(cls.database)
        cls.result = succeed(*arguments, "--json").json

    def test_resumed_after_kill(self):
        summary = self.result["summary"]
        self.assertEqual(self.codes, [-signal.SIGKILL] * 2)
        self.assertGreaterEqual(self.before, 9)
        self.assertLess(self.before, EXAMPLE_POINTS)
        self.assertEqual(summary["before"], self.before, "nothing is computed again")
        self.assertEqual(summary["done"], EXAMPLE_POINTS - self.before)
        self.assertEqual(summary["failed"], 0)
        connection = sqlite3.connect(self.database)
        self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM metrics m WHERE m.point = p.id),"
            " (SELECT count(*) FROM layers l WHERE l.point = p.id) FROM points p"
            " WHERE kind = 'point'"
        ).fetchall()
        connection.close()
        self.assertEqual(len(counts), EXAMPLE_POINTS)
        self.assertEqual(set(metrics for metrics, _ in counts), {4}, "no point is half written")
        self.assertGreater(min(layers for _, layers in counts), 10)

    def test_shards_on_one_thread_give_the_same(self):
        """Two shards, a point at a time, merged: the same rows as in parallel, killed, resumed."""
        folder = fresh_folder("sweep_shards")
        parts = [folder / f"{i}.db" for i in (1, 2)]
        for i, part in enumerate(parts, 1):
            summary = succeed(
                "sweep", EXAMPLE, "-o", part, "--shard", f"{i}/2", "--jobs", 1, "--json"
            ).json["summary"]
            self.assertEqual(summary["in_shard"], summary["done"])
            self.assertEqual(summary["jobs"], 1)
        merged = folder / "all.db"
        succeed("sweep", "--merge", *parts, "-o", merged)
        self.assertEqual(rows_of(merged), rows_of(self.database))

    def test_csv(self):
        text = (self.folder / "p.csv").read_bytes().decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        self.assertEqual(len(rows), EXAMPLE_POINTS + 1)
        reference = [row for row in rows if row["kind"] == "float"]
        self.assertEqual(len(reference), 1)
        for row in rows:
            self.assertEqual(row["status"], "done")
            self.assertLessEqual(float(row["top1_lo"]), float(row["top1"]))
        by_id = {point["id"]: point for point in self.result["points"]}
        for row in rows:
            self.assertEqual(float(row["kl"]), by_id[row["id"]]["metrics"]["kl"]["value"])

    def test_points_equal_quantize_and_eval(self):
        """A point's figures are those of octet quantize and octet eval with its recipe."""
        point = next(p for p in self.result["points"] if p["label"].startswith("alpha=0.5"))
        folder = fresh_folder("sweep_point")
        recipe, out = folder / "recipe.yaml", folder / "q.onnx"
        recipe.write_text(point["recipe"], encoding="utf-8")
        data = ("--data", DATA, "--preset", "imagenet-tf")
        succeed("quantize", MODEL, *data, "--samples", 32, "--recipe", recipe, "-o", out)
        figures = succeed(
            "eval", out, "--against", MODEL, *data, "--skip", 64, "--samples", 128, "--json"
        ).json
        for name, figure in point["metrics"].items():
            self.assertEqual(figures[name], figure["value"], name)

    def test_existing_database_is_not_overwritten(self):
        result = run("sweep", EXAMPLE, "-o", self.folder)
        self.assertEqual(result.code, USAGE)
        self.assertIn("--resume", result.err)

    def test_coupled_keys_ranges_and_exclusions(self):
        folder, path = write(
            "sweep_coupled",
            "base: naive\n"
            "grid:\n"
            "  weight_format + estimator: [[int8, minmax], [int8-narrow, mse]]\n"
            "  weight_granularity: [channel, tensor]\n"
            "exclude: [{weight_granularity: tensor, estimator: [mse, entropy]}]\n",
        )
        result = succeed("sweep", path, "-o", folder, "--json").json
        settings = [p["settings"] for p in result["points"] if p["kind"] == "point"]
        both = ("weight_format", "estimator", "weight_granularity")
        self.assertEqual(
            [tuple(s[key] for key in both) for s in settings],
            [
                ("int8", "minmax", "channel"),
                ("int8", "minmax", "tensor"),
                ("int8-narrow", "mse", "channel"),
            ],
        )
        self.assertEqual(result["summary"]["excluded"], 1)

    def test_senseless_combinations(self):
        text = "base: naive\ngrid: {target: [tensorrt, octet], activation_format: [uint8, int8]}\n"
        folder, path = write("sweep_senseless", text)
        refused = run("sweep", path, "-o", folder / "a.db")
        self.assertEqual(refused.code, USAGE)
        self.assertIn("TensorRT takes signed", refused.err)
        self.assertFalse((folder / "a.db").exists(), "before anything runs")
        path.write_text(HEAD + text + "skip_invalid: true\n", encoding="utf-8")
        summary = succeed("sweep", path, "-o", folder / "b.db", "--json").json
        self.assertEqual(summary["summary"]["refused"], 1)
        self.assertEqual(summary["summary"]["done"], 3)
        (point,) = [p for p in summary["points"] if p["status"] == "refused"]
        self.assertIn("TensorRT takes signed", point["error"])

    def test_a_failed_point_stops_nobody(self):
        folder, path = write(
            "sweep_failed", "base: naive\npoints: [{layers.nowhere.skip: true}, {estimator: mse}]\n"
        )
        result = succeed("sweep", path, "-o", folder, "--json").json
        self.assertEqual((result["summary"]["failed"], result["summary"]["done"]), (1, 1))
        (failed,) = [p for p in result["points"] if p["status"] == "failed"]
        self.assertIn("matches no node", failed["error"])
        again = succeed("sweep", path, "-o", folder, "--resume", "--json").json["summary"]
        self.assertEqual((again["failed"], again["before"]), (0, 2))
        retried = succeed("sweep", path, "-o", folder, "--resume", "--retry-failed", "--json").json
        self.assertEqual(retried["summary"]["failed"], 1)
        only, path = write("sweep_all_failed", "base: naive\ngrid: {layers.nowhere.skip: [true]}\n")
        self.assertEqual(run("sweep", path, "-o", only).code, CHECK_FAILED)

    def test_nothing_is_left_of_a_sweep_that_cannot_begin(self):
        for old, new, word in (
            (str(MODEL), "nowhere.onnx", "nowhere.onnx"),
            ("skip: 64", "skip: 6400", "6400"),
            ("[top1, kl]", "[top7]", "top7"),
        ):
            folder, path = write("sweep_cannot", "base: naive\n")
            path.write_text(path.read_text().replace(old, new), encoding="utf-8")
            result = run("sweep", path, "-o", folder / "s.db")
            self.assertNotEqual(result.code, 0)
            self.assertIn(word, result.err)
            self.assertEqual([file.name for file in folder.iterdir()], ["sweep.yaml"])

    def test_tables_of_products(self):
        """They lie beside the sweep's file; what they hold is part of what a point is."""
        folder, path = write(
            "sweep_tables",
            "base: {preset: naive, target: octet}\n"
            "grid:\n"
            "  activation_format + weight_format: [int8]\n"
            "  multiplier: [exact, 'table:mul.npy']\n",
        )
        missing = run("sweep", path, "-o", folder / "s.db")
        self.assertNotEqual(missing.code, 0)
        self.assertIn("mul.npy", missing.err)
        self.assertFalse((folder / "s.db").exists(), "before anything runs")
        codes = np.arange(256).astype(np.uint8).astype(np.int8).astype(int)
        figures, done = [], []
        for step in (1, 1, 64):
            np.save(folder / "mul.npy", np.outer(codes, codes) // step * step)
            told = succeed("sweep", path, "-o", folder / "s.db", "--resume", "--json").json
            done.append(told["summary"]["done"])
            of_table = [p for p in told["points"] if "table" in p["label"]]
            figures.append({p["metrics"]["kl"]["value"] for p in of_table})
        self.assertEqual(done, [2, 0, 1], "computed again with the table, and only then")
        self.assertEqual(len(figures[-1]), 2)
        self.assertGreater(max(figures[-1]), max(figures[0]))

    def test_report_where_nothing_may_be_written(self):
        """A read-only file system, in a mount namespace of its own."""
        folder, path = write("sweep_read_only", "base: naive\n")
        place = folder / "read?only#%41"
        succeed("sweep", path, "-o", place)
        script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" || exit 90; exec "$@"'
        shell = "unshare --user --map-root-user --mount sh -c".split() + [script, str(place)]
        if subprocess.run([*shell, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("no mount namespaces here")
        for command in (
            ("report", place, "-o", folder / "r.html"),
            ("sweep", "--merge", place / "sweep.db", "-o", folder / "merged.db"),
        ):
            done = subprocess.run(
                [*shell, PROGRAM, *command], capture_output=True, text=True, check=False
            )
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(rows_of(folder / "merged.db"), rows_of(place / "sweep.db"))

    def test_wrong_options(self):
        for options, word in (
            (("--shard", "3/2"), "shard 3/2; expected 1/n ... n/n"),
            (("--shard", "99999999999/2"), "expected I/N"),
            (("--shard", "1/2/3"), "expected I/N"),
            (("--jobs", -1), "'-1'; expected 0 or more"),
            (("--memory", "nan"), "'nan'; expected 0 or more"),
        ):
            folder = fresh_folder("sweep_options")
            result = run("sweep", EXAMPLE, "-o", folder / "s.db", *options)
            self.assertEqual(result.code, USAGE, options)
            self.assertIn(word, result.err)
            self.assertFalse((folder / "s.db").exists())

    def test_latency(self):
        folder, path = write("sweep_bench", "bench: 0.05\nbase: naive\ngrid: {estimator: [mse]}\n")
        points = succeed("sweep", path, "-o", folder, "--json").json["points"]
        self.assertEqual(len(points), 2)
        for point in points:
            self.assertGreater(point["latency_s"], 0)

    def test_wrong_files(self):
        for name, text, word in (
            ("key", "frobnicate: 1\n", "frobnicate"),
            ("recipe_key", "grid: {frobnicate: [1]}\n", "frobnicate"),
            ("twice", "points: [{a + a: 1}]\n", "set twice"),
            ("range", "grid: {alpha: {from: 1, to: 0, step: 0.1}}\n", "from <= to"),
            ("empty", "grid: {alpha: []}\n", "empty"),
            ("lengths", "grid: {'a + b': [[1, 2, 3]]}\n", "3 values"),
        ):
            folder, path = write(f"sweep_wrong_{name}", text)
            result = run("sweep", path, "-o", folder)
            self.assertEqual(result.code, USAGE, name)
            self.assertIn(word, result.err)
            self.assertIn("sweep.yaml", result.err)
        folder, path = write("sweep_not_a_database", "base: naive\n")
        (folder / "x.db").write_text("no database", encoding="utf-8")
        result = run("sweep", path, "-o", folder / "x.db", "--resume")
        self.assertEqual(result.code, BAD_FILE)

    def test_example_of_formats_and_multipliers(self):
        """One of its nine points; all of them are read and checked."""
        folder = fresh_folder("multipliers")
        example = ROOT / "examples/demo_multipliers.yaml"
        told = succeed("sweep", example, "-o", folder, "--shard", "3/9", "--json").json
        done = [point for point in told["points"] if point["kind"] == "point"]
        self.assertEqual([point["status"] for point in done], ["done"])
        self.assertIn("multiplier=hw:d=2", done[0]["label"])
        connection = sqlite3.connect(folder / "sweep.db")
        costs = connection.execute("SELECT cost FROM points WHERE kind = 'point'").fetchall()
        self.assertEqual(costs, [(0.25,)])
        connection.close()

    def test_example_of_a_real_network(self):
        """One of its points, on the demo network in the place of the real one; all are checked."""
        folder = fresh_folder("mobilenet")
        shutil.copy(ROOT / "examples/mobilenet_formats.yaml", folder)
        (folder / "mobilenet_v1_025_224.onnx").symlink_to(MODEL)
        (folder / "imagenet_200").symlink_to(DATA)
        told = succeed(
            "sweep", folder / "mobilenet_formats.yaml", "-o", folder, "--shard", "23/66", "--json"
        ).json
        self.assertEqual((told["summary"]["points"], told["summary"]["done"]), (66, 1))
        (point,) = [point for point in told["points"] if point["kind"] == "point"]
        self.assertIn("multiplier=v9:d=3", point["label"])


if __name__ == "__main__":
    unittest.main()
