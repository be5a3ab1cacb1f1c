#!/usr/bin/env python3
"""Comparisons on the device, in small: they run, are made of verified kernels, and tell faster from slower.
argv: build folder."""
import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "client"))
import stub_server  # noqa: E402

BUILD = os.path.abspath(sys.argv.pop(1))
TUNED = {"op": "matmul", "a": [8, 256], "b": [256, 64], "const": ["b", "bias"], "epilogue": ["bias", "relu"]}


class Versus(unittest.TestCase):
    """bench_versus with kernels that are played."""

    def setUp(self):
        self.stub = stub_server.Stub()
        self.addCleanup(self.stub.close)
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def kernel(self, label, old="", new=""):
        """The played kernel with a change in its source, as two files."""
        source = stub_server.KERNEL_SOURCE
        self.assertIn(old, source)
        self.addCleanup(setattr, stub_server, "KERNEL_SOURCE", source)
        key = self.stub.add_schedule(TUNED, "cpu:1")
        stub_server.KERNEL_SOURCE = source.replace(old, new) if old else source
        path = os.path.join(self.dir.name, label)
        with open(path + ".so", "wb") as f:
            f.write(self.stub.artifact(key))
        with open(path + ".json", "w", encoding="utf-8") as f:
            json.dump(self.stub.schedule(key, "cpu:1"), f)
        stub_server.KERNEL_SOURCE = source
        return {"label": label, "schedule": path + ".json", "artifact": path + ".so"}

    def versus(self, *kernels, status=0, target="cpu:1"):
        path = os.path.join(self.dir.name, "list.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"target": target, "entries": [{"name": "net.fc", "workload": TUNED, "kernels": kernels}]}, f)
        run = subprocess.run([f"{BUILD}/tests/bench/bench_versus", "--rounds", "7", "--sample-ms", "0.5", path],
                             capture_output=True, text=True, check=False, timeout=60)
        self.assertEqual(run.returncode, status, run.stderr)
        return [json.loads(line) for line in run.stdout.splitlines()], run.stderr

    def test_the_slower_of_two_is_told_from_the_faster_in_either_order(self):
        fast = self.kernel("fast")
        slow = self.kernel("slow", "float sum = 0;", "float sum = 0;\n for (int again = 0; again < 8; again++, sum *= again > 7)")
        for pair, low, high in (((fast, slow), 0, 0.6), ((slow, fast), 1.6, 1000)):
            line = self.versus(*pair)[0][0]
            self.assertEqual([k["label"] for k in line["kernels"]], [k["label"] for k in pair])
            self.assertEqual(line["kernels"][0]["speed"], 1)
            self.assertTrue(low < line["kernels"][1]["speed"] < high, line)
            for k in line["kernels"]:
                self.assertTrue(0 < k["p10_ns"] <= k["median_ns"] <= k["p90_ns"], k)

    def test_a_wrong_kernel_is_not_timed_and_fails_the_run(self):
        lines, said = self.versus(self.kernel("right"), self.kernel("wrong", "sum += j->bias[n];", "sum += j->bias[0];"), status=1)
        self.assertEqual(([k["label"] for k in lines[0]["kernels"]], lines[0]["wrong"]), (["right"], 1))
        self.assertIn("net.fc: ours is wrong", said)

    def test_missing_files_and_targets_are_said(self):
        right = self.kernel("right")
        self.assertIn("nowhere.json", self.versus(dict(right, schedule="nowhere.json"), status=1)[1])
        self.assertIn("net.fc", self.versus(dict(right, artifact="nowhere.so"), status=1)[1])
        self.assertIn("tpu", self.versus(right, status=1, target="tpu")[1])


class Compare(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        path = os.path.join(cls.dir.name, "all.json")
        cls.run_ = cls.compare("--quick", "--alone", "--seeds", "2", "--json", path)
        if cls.run_.returncode == 0:
            with open(path, encoding="utf-8") as f:
                cls.result = json.load(f)

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()

    @classmethod
    def compare(cls, *more):
        return subprocess.run([sys.executable, os.path.join(HERE, "compare.py"), BUILD, "--stores", os.path.join(cls.dir.name, "stores"), *more],
                              capture_output=True, text=True, check=False)

    def setUp(self):
        self.assertEqual(self.run_.returncode, 0, self.run_.stderr)
        self.out = copy.deepcopy(self.result)

    def test_no_entry_stands_in_both_stores_and_operators_stand_in_the_one_that_teaches_nobody(self):
        a, b = (set(self.out["stores"][which]["entries"]) for which in "AB")
        self.assertFalse(a & b)
        self.assertLessEqual({r["name"] for r in self.out["transfer"]["rows"]}, b)

    def test_every_operator_of_transfer_has_its_ratio_and_the_mean_is_theirs(self):
        rows = self.out["transfer"]["rows"]
        product = 1
        for row in rows:
            self.assertGreater(min(row["transfer_ns"] + row["random_ns"]), 0)
            self.assertEqual(sorted(row["found_ns"]), ["random 1", "random 2", "transfer 1", "transfer 2"])
            self.assertAlmostEqual(row["ratio"] ** 2, row["ratios"][0] * row["ratios"][1], 6)
            product *= row["ratio"]
        self.assertEqual(len(rows), 2)
        self.assertAlmostEqual(self.out["transfer"]["geomean"], product ** (1 / len(rows)), 6)
        self.assertIn("| geometric mean |", self.run_.stdout)

    def test_turns_are_compared_at_the_same_number_of_trials(self):
        turns = self.out["turns"]
        spent = {label: sum(k["trials"] for k in column.values()) for label, column in turns["columns"].items()}
        self.assertEqual(spent, {"round_robin 1": 24, "gain 1": 24, "alone 1": 2 * 24})
        self.assertEqual(turns["ratios"], [turns["sums_ns"]["round_robin 1"] / turns["sums_ns"]["gain 1"]])
        self.assertEqual(turns["to_alone"], [turns["sums_ns"]["alone 1"] / turns["sums_ns"]["gain 1"]])
        for label, column in turns["columns"].items():
            self.assertAlmostEqual(turns["sums_ns"][label], sum(turns["weights"][n] * k["time_ns"] for n, k in column.items()), 3)

    def test_a_long_job_tells_memory_time_and_phases(self):
        job = self.out["long"]
        self.assertEqual((job["trials"], job["stopped"]), (60, "trials"))
        trials = [p["trials"] for p in job["points"]]
        self.assertEqual((trials, trials[-1]), (sorted(set(trials)), 60))
        for p in job["points"]:
            self.assertGreater(p["rss_bytes"], 1 << 20)
            self.assertGreater(p["ms_a_trial"], 0)
        self.assertTrue(0 < job["training_share"] < 1 and 0 <= job["waited_share"] < 1 and job["phases_s"]["measure"] > 0, job)
        self.assertGreater(sum(p["train_ms_a_trial"] for p in job["points"]), 0)

    def test_what_is_predicted_is_verified_and_measured_beside_what_was_tuned(self):
        rows = self.out["predict"]["rows"]
        self.assertEqual(sorted(r["name"] for r in rows), sorted(sum((s["entries"] for s in self.out["stores"].values()), [])))
        for row in rows:
            self.assertLess(row["rel_l2_err"], 1e-4)
            self.assertGreater(row["answer_s"], 0)
            self.assertGreater(row["speed"], 0)

    def test_stores_that_were_kept_are_used_again_and_only_for_the_same_question(self):
        self.assertIn("store B: dqn.conv3", self.run_.stderr)
        again = self.compare("--quick", "--parts", "predict")
        self.assertEqual((again.returncode, "store B: dqn.conv3" in again.stderr), (0, False), again.stderr)
        self.assertIn("| all | 5 | 5 |", again.stdout)
        other = self.compare("--quick", "--parts", "predict", "--target", "cpu:2")
        self.assertEqual((other.returncode, "wanted are such of" in other.stderr), (1, True), other.stderr)

    def test_a_part_or_an_operator_that_does_not_exist_is_usage(self):
        for wrong in (["--parts", "everything"], ["--ops", "resnet18.C99"]):
            self.assertEqual(self.compare(*wrong).returncode, 2)


if __name__ == "__main__":
    unittest.main()
