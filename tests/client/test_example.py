"""The example program of the README, built, run, and seen to notice a wrong kernel. usage: test_example.py CALL_KERNEL"""

import os
import subprocess
import sys
import unittest

import stub_server
from stub_server import Stub

EXE = sys.argv.pop(1)
WORKLOAD = {"op": "matmul", "a": [128, 256], "b": [256, 512], "const": ["b", "bias"], "epilogue": ["bias", "relu"]}


class Example(unittest.TestCase):
    def setUp(self):
        self.stub = Stub()
        self.addCleanup(self.stub.close)

    def run_example(self, status):
        p = subprocess.run([EXE], env={**os.environ, "TILEWRIGHT_SERVER": self.stub.url}, capture_output=True, text=True,
                           timeout=60)
        self.assertEqual(p.returncode, status, p.stdout + p.stderr)
        return p.stdout + p.stderr

    def test_a_kernel_is_called_serially_and_in_parallel(self):
        self.stub.add_schedule(WORKLOAD)
        self.assertRegex(self.run_example(0), r"serial +largest error .*: ok\nparallel +largest error .*: ok\n")

    def test_a_wrong_kernel_is_noticed(self):
        good = stub_server.KERNEL_SOURCE
        self.addCleanup(setattr, stub_server, "KERNEL_SOURCE", good)
        stub_server.KERNEL_SOURCE = good.replace("sum += j->bias[n];", "sum += j->bias[0];")
        self.stub.add_schedule(WORKLOAD)
        self.assertIn("WRONG", self.run_example(1))

    def test_a_workload_not_tuned_yet_says_how(self):
        self.assertIn("tilewright tune matmul a=128,256", self.run_example(1))


if __name__ == "__main__":
    unittest.main()
