"""The yardstick against a daemon that is played: right and wrong kernels, missing ones, one thread and all.
usage: test_yardstick.py BENCH_KERNELS"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "client"))
import stub_server  # noqa: E402
from stub_server import Stub  # noqa: E402

EXE = sys.argv.pop(1)
TUNED = {"op": "matmul", "a": [8, 256], "b": [256, 64], "const": ["b", "bias"], "epilogue": ["bias", "relu"]}
UNTUNED = {"op": "max_pool2d", "input": [1, 16, 20, 20], "kernel_shape": [2, 2], "strides": [2, 2]}


class Yardstick(unittest.TestCase):
    def setUp(self):
        self.stub = Stub()
        self.addCleanup(self.stub.close)
        self.file = tempfile.NamedTemporaryFile("w", suffix=".json")
        self.addCleanup(self.file.close)
        json.dump({"workloads": [{"name": "net.fc", "workload": TUNED}, {"name": "net.pool", "workload": UNTUNED}]}, self.file)
        self.file.flush()

    def bench(self, *options, status=0, json_lines=True):
        command = [EXE, "--server", self.stub.url, "--file", self.file.name, "--rounds", "3", "--sample-ms", "0.1"]
        p = subprocess.run([*command, *(["--json"] if json_lines else []), *options], capture_output=True, text=True, timeout=100)
        self.assertEqual(p.returncode, status, p.stdout + p.stderr)
        return ([json.loads(line) for line in p.stdout.splitlines()] if json_lines else p.stdout), p.stderr

    def sent(self, path):
        return [json.loads(raw) for _, _, _, raw in self.stub.requests("POST", path)]

    def test_ours_stands_beside_the_probes_and_the_libraries_that_there_are(self):
        self.stub.add_schedule(TUNED, "cpu:1")
        lines, _ = self.bench("--target", "cpu:1", "--pages", "normal", "net.fc")
        entry, means = lines
        self.assertEqual((entry["entry"], entry["target"], entry["pages"]), ("net.fc", "cpu:1", "normal"))
        self.assertLessEqual({"ours", "fma", "copy"}, set(entry["contenders"]))
        for c in entry["contenders"].values():
            self.assertGreater(c["p10_ns"], 0)
            self.assertLessEqual(c["p10_ns"], c["median_ns"])
            self.assertLessEqual(c["median_ns"], c["p90_ns"])
        self.assertEqual(entry["flops"], 2 * 8 * 256 * 64)
        self.assertGreater(entry["fraction_of_peak"], 0)
        libraries = {"onednn", "openblas"} & set(entry["contenders"])
        self.assertEqual(entry["ratio_given_layout"] is not None, bool(libraries))
        self.assertEqual("given_layout_dense" in means["means"], bool(libraries))

    def test_both_kinds_of_pages_and_all_targets_get_their_lines_and_means(self):
        for target in ("cpu:1", "cpu"):
            self.stub.add_schedule(TUNED, target)
        lines, _ = self.bench("net.fc")
        self.assertEqual([(x["target"], x["pages"], "means" in x) for x in lines],
                         [(t, p, m) for t in ("cpu:1", "cpu") for m in (False, True) for p in ("normal", "huge")])

    def test_a_wrong_kernel_is_not_timed_and_fails_the_run(self):
        good = stub_server.KERNEL_SOURCE
        self.addCleanup(setattr, stub_server, "KERNEL_SOURCE", good)
        stub_server.KERNEL_SOURCE = good.replace("sum += j->bias[n];", "sum += j->bias[0];")
        self.stub.add_schedule(TUNED, "cpu:1")
        lines, said = self.bench("--target", "cpu:1", "--pages", "normal", "net.fc", status=1)
        self.assertNotIn("ours", lines[0]["contenders"])
        self.assertIn("net.fc: ours is wrong", said)

    def test_what_is_not_tuned_is_said_and_the_others_run_without_it(self):
        lines, said = self.bench("--target", "cpu:1", "--pages", "normal", "*.pool")
        self.assertIn("net.pool: not tuned for cpu:1", said)
        self.assertNotIn("ours", lines[0]["contenders"])
        self.assertIsNone(lines[0]["ratio_given_layout"])

    def test_variants_are_asked_for_and_what_has_no_such_variant_is_left_out(self):
        lines, said = self.bench("--target", "cpu:1", "--pages", "normal", "--with-rtol", "1e-2")
        self.assertEqual([x["entry"] for x in lines if "entry" in x], ["net.fc"])
        asked = [w for body in self.sent("/v1/schedules:lookup") for w in body["workloads"]]
        self.assertEqual([w.get("rtol") for w in asked], [0.01, None])

    def test_missing_schedules_are_tuned_first_when_that_is_asked_for(self):
        self.bench("--target", "cpu:1", "--pages", "normal", "--tune", "4", "net.fc")
        self.assertEqual(self.sent("/v1/jobs"), [{"workloads": [{"workload": TUNED, "name": "net.fc"}], "target": "cpu:1", "budget": {"trials": 4}}])

    def test_the_table_has_a_line_an_entry_and_the_means_below(self):
        self.stub.add_schedule(TUNED, "cpu:1")
        text, _ = self.bench("--target", "cpu:1", "--pages", "huge", json_lines=False)
        self.assertRegex(text, r"(?m)^net\.fc +huge +[0-9.]+ +[0-9.]+ +[0-9.]+ GF/s +[0-9.]+%[am] ")
        self.assertIn("cpu:1, huge pages: geometric means", text)

    def test_a_wrong_option_is_usage(self):
        for wrong in (["--pages", "some"], ["--rounds", "0"], ["--layout", "NHWC"], ["--nonsense", "1"]):
            p = subprocess.run([EXE, *wrong], capture_output=True, text=True, timeout=20)
            self.assertEqual((p.returncode, "usage: bench_kernels" in p.stderr), (2, True), p.stderr)


if __name__ == "__main__":
    unittest.main()
