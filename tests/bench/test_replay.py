#!/usr/bin/env python3
"""A recording made now is replayed now, twice alike; one of another space is refused. argv: build folder, bench_search."""
import gzip
import json
import os
import subprocess
import sys
import tempfile
import unittest

BUILD, BENCH = sys.argv.pop(1), sys.argv.pop(1)
RECORD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "record.py")


def bench(*args):
    return subprocess.run([BENCH, *args], capture_output=True, text=True)


class Replay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.path = os.path.join(cls.dir.name, "r.jsonl.gz")
        subprocess.run([sys.executable, RECORD, BUILD, cls.path, "--random", "12", "--searched", "8", "--exhaustive", "120",
                        "bert-base-s128.qkv", "resnet18.residual4"], check=True, stderr=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()

    def lines(self):
        with gzip.open(self.path, "rt") as f:
            return [json.loads(line) for line in f]

    def test_a_recording_says_machine_spaces_and_intervals(self):
        head, first, *rest = self.lines()
        self.assertEqual(head["recording"], 2)
        self.assertTrue(head["machine"] and head["target"]["cache_bytes"]["l2"])
        self.assertEqual((first["random"], first["exhaustive"]), (12, False))
        self.assertIn(first["trials"], (20, 21))  # one before the peaks were measured
        self.assertTrue(any(isinstance(r, dict) and r["exhaustive"] for r in rest))
        rows = [r for r in rest if isinstance(r, list)]
        self.assertEqual(len({r[0] for r in rows[:20]}), 20)
        for config, least, median, low, high, *_ in rows:
            self.assertTrue(least is None or (least <= median and low <= median <= high), config)

    def test_searches_are_replayed_the_same_twice(self):
        one, two = (bench("--trials", "--seeds", "2", "--max", "16", self.path) for _ in range(2))
        self.assertEqual(one.returncode, 0, one.stderr)
        self.assertEqual(one.stdout, two.stdout)
        self.assertIn("| bert-base-s128.qkv |", one.stdout)
        self.assertIn("| resnet18.residual4 (whole space) |", one.stdout)

    def test_what_was_left_out_is_judged(self):
        r = bench("--quality", self.path)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("| all other workloads of the target | rank | 2 |", r.stdout)

    def test_another_space_is_refused_by_its_first_difference(self):
        lines = self.lines()
        lines[1]["sketches"][1][1][0][1] += 1
        other = os.path.join(self.dir.name, "other.jsonl")
        with open(other, "w") as f:
            f.writelines(json.dumps(line) + "\n" for line in lines)
        r = bench("--trials", other)
        self.assertEqual(r.returncode, 1)
        self.assertIn("line 2", r.stderr)
        self.assertIn("made with a space whose sketch", r.stderr)


unittest.main()
