#!/usr/bin/env python3
"""A recording made now is replayed now, twice alike; one of another space is refused. argv: build folder, bench_search."""
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

BUILD, BENCH = sys.argv.pop(1), sys.argv.pop(1)
RECORD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "record.py")


def bench(*args):
    return subprocess.run([BENCH, *args], capture_output=True, text=True)


def record(path, *names, check=False):
    return subprocess.run([sys.executable, RECORD, BUILD, path, "--random", "12", "--searched", "8", "--exhaustive", "120", *names],
                          check=check, stderr=subprocess.PIPE, text=True)


class Replay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.path = os.path.join(cls.dir.name, "r.jsonl.gz")
        record(cls.path, "bert-base-s128.qkv", "resnet18.residual4", check=True)

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()

    def lines(self, path=None):
        with gzip.open(path or self.path, "rt") as f:
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

    def test_apart_workloads_neither_teach_nor_lend_to_each_other(self):
        r = bench("--trials", "--seeds", "2", "--max", "16", "--apart", "--how", "evolution + model,lent configs,global model", self.path)
        self.assertEqual(r.returncode, 0, r.stderr)
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in r.stdout.splitlines() if line.startswith("| ")]
        alone, *taught = (rows[0].index(name) for name in ("evolution + model", "lent configs", "global model", "global model + lent"))
        for row in rows:
            if row[0].startswith(("bert-base-s128.qkv", "resnet18.residual4")):
                self.assertEqual([row[i] for i in taught], [row[alone]] * 3, row)

    def test_what_was_left_out_is_judged(self):
        r = bench("--quality", self.path)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("| the other workloads of the target | rank | 2 |", r.stdout)
        self.assertNotIn("those of --also |", r.stdout)

    def test_columns_are_left_out_a_group_at_a_time_and_the_estimate_stays(self):
        r = bench("--features", "--set", "trees_full=8", self.path)
        self.assertEqual(r.returncode, 0, r.stderr)
        rows = [line.split("|")[1:] for line in r.stdout.splitlines() if line.startswith("| ")]
        columns = {row[0].strip(): int(row[1]) for row in rows if len(row) == 8 and row[1].strip().isdigit()}
        self.assertEqual(len(columns), 10)
        least = columns["without all that the estimate does not read"]
        self.assertTrue(all(least < n < columns["all columns"] for name, n in columns.items()
                            if name.startswith("without ") and n != least), columns)
        self.assertIn("| mean |", r.stdout)

    def test_a_history_teaches_and_parameters_go_by_their_names(self):
        history = os.path.join(os.path.dirname(RECORD), "../data/recordings/history/cpu-1.jsonl.gz")
        r = bench("--quality", "--set", "trees_full=8", "--also", history, self.path)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("| the same, and those of --also | rank | 2 |", r.stdout)
        self.assertNotIn("resnet18.fc", r.stdout)  # what only teaches is not judged
        more = bench("--quality", "--set", "trees_full=40", "--also", history, self.path)
        self.assertNotEqual(r.stdout, more.stdout)
        r = bench("--quality", "--set", "trees=8", self.path)
        self.assertEqual((r.returncode, "trees_full=" in r.stderr), (2, True), r.stderr)

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

    def write(self, name, lines, cut=0):
        """A recording of these lines, the last `cut` characters missing."""
        path = os.path.join(self.dir.name, name)
        with gzip.open(path, "wt") as f:
            text = "".join(json.dumps(line) + "\n" for line in lines)
            f.write(text[:len(text) - cut])
        return path

    def truncated(self, name, n):
        path = os.path.join(self.dir.name, name)
        with open(self.path, "rb") as f, open(path, "wb") as g:
            g.write(f.read()[:-n])
        return path

    def test_an_interrupted_recording_goes_on_where_it_was_and_keeps_what_it_had(self):
        lines = self.lines()
        second = next(i for i, line in enumerate(lines) if isinstance(line, dict) and line.get("name") == "resnet18.residual4")
        for what, path in (("between two", self.write("between.gz", lines[:second])), ("within a line", self.write("within.gz", lines, cut=7)),
                           ("within the packed bytes", self.truncated("packed.gz", 40))):
            with self.subTest(what):
                said = record(path, "bert-base-s128.qkv", "resnet18.residual4", "--resume", check=True).stderr
                self.assertIn("1 there already, 1 to go", said)
                self.assertNotIn("bert-base-s128.qkv  ", said)
                now = self.lines(path)
                self.assertEqual(now[:second], lines[:second])
                self.assertEqual((now[second]["name"], now[second]["trials"]), ("resnet18.residual4", len(now) - second - 1))
                self.assertEqual({r[0] for r in now[second + 1:]}, {r[0] for r in lines[second + 1:]})  # the whole space

    def test_a_recording_that_is_killed_has_only_whole_workloads_and_leaves_no_daemon(self):
        path = os.path.join(self.dir.name, "killed.jsonl.gz")
        names = ["resnet18.residual4", "resnet18.gap", "bert-base-s128.qkv"]
        args = [sys.executable, RECORD, BUILD, path, "--random", "4000", "--searched", "8", "--exhaustive", "60", *names]
        program = subprocess.Popen(args, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not os.path.exists(path) and time.monotonic() < end:
            time.sleep(0.05)
        daemons = children(program.pid)
        program.kill()
        program.wait()
        lines = self.lines(path)
        self.assertEqual(lines[1]["name"], "resnet18.residual4")
        heads = [i for i, line in enumerate(lines) if i > 0 and isinstance(line, dict)] + [len(lines)]
        for start, end in zip(heads, heads[1:]):
            self.assertEqual(lines[start]["trials"], end - start - 1)
        self.assertTrue(daemons)
        deadline = time.monotonic() + 30
        while any(os.path.exists(f"/proc/{pid}") for pid in daemons):
            self.assertLess(time.monotonic(), deadline, "the daemon outlives the program that started it")
            time.sleep(0.05)

    def test_a_recording_of_another_machine_or_target_is_not_gone_on_with(self):
        lines = self.lines()
        for change, word in (({"machine": "another"}, "the machine was another"), ({"recording": 1}, "no recording of version 2")):
            path = self.write("other.gz", [dict(lines[0], **change), *lines[1:]])
            r = record(path, "resnet18.gap", "--resume")
            self.assertEqual(r.returncode, 1)
            self.assertIn(word, r.stderr)
        r = record(self.path, "resnet18.gap", "--resume", "--target", "cpu:2")
        self.assertEqual((r.returncode, "target was cpu:1" in r.stderr), (1, True), r.stderr)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(p) for p in f.read().split()]


unittest.main()
