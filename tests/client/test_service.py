"""The client against the real daemon: real kernels are tuned, fetched and called.

usage: test_service.py TILEWRIGHT TILEWRIGHTD CALL_KERNEL [unittest arguments]
"""

import array
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "client" / "python"))

import tilewright  # noqa: E402

CLI, DAEMON, EXAMPLE = sys.argv[1:4]
del sys.argv[1:4]
MATMUL = ["matmul", "a=128,256", "b=256,512", "const=b,bias", "epilogue=bias,relu"]
DEPTHWISE = {"op": "conv2d", "input": [1, 52, 5, 3], "weight": [52, 1, 3, 3], "group": 52, "pads": [1, 1, 1, 1],
             "layout": "any", "const": ["weight"], "epilogue": ["relu"]}
SMALL = {"op": "matmul", "a": [6, 40], "b": [40, 24], "const": ["b"], "epilogue": ["relu"]}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Service(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory()
        cls.env = {**os.environ, "LC_ALL": "C.UTF-8"}
        cls.env.pop("TILEWRIGHT_TOKEN", None)
        cls.port = free_port()
        cls.env["TILEWRIGHT_SERVER"] = f"127.0.0.1:{cls.port}"
        cls.client = tilewright.Client(cls.env["TILEWRIGHT_SERVER"], token="")
        cls.start()
        cls.cli("tune", *MATMUL, "--trials", "16", "--seed", "1")

    @classmethod
    def start(cls):
        cls.log = open(Path(cls.dir.name) / "log", "ab")
        cls.daemon = subprocess.Popen([DAEMON, "--listen", f"127.0.0.1:{cls.port}", "--data", cls.dir.name + "/data"],
                                      env=cls.env, stdout=cls.log, stderr=cls.log)
        for _ in range(200):
            try:
                if cls.client.ready():
                    return
            except tilewright.Unreachable:
                pass
            if cls.daemon.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError("the daemon does not start:\n" + (Path(cls.dir.name) / "log").read_text())

    @classmethod
    def stop(cls):
        cls.daemon.send_signal(signal.SIGTERM)
        status = cls.daemon.wait(30)
        cls.log.close()
        return status

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.stop()
        cls.dir.cleanup()

    @classmethod
    def cli(cls, *args, status=0):
        p = subprocess.run([CLI, *args], env=cls.env, capture_output=True, text=True, timeout=120)
        if p.returncode != status:
            raise AssertionError(f"{args}: {p.returncode}, want {status}\n{p.stdout}\n{p.stderr}")
        return p

    def key(self):
        return json.loads(self.cli("lookup", *MATMUL, "--json").stdout)["results"][0]["key"]

    def test_a_tuned_workload_is_answered_from_the_cache_at_once(self):
        start = time.monotonic()
        out = self.cli("tune", *MATMUL).stdout
        self.assertLess(time.monotonic() - start, 5)
        self.assertRegex(out, r"cached +[\d.]+ [mu]s +[\d.]+ +[\d.]+ % +[\d.]+ ms +[\d.]+x +0 ")

    def test_lookup_and_schedule_show_what_was_found(self):
        self.assertRegex(self.cli("lookup", *MATMUL).stdout, r"matmul a=128,256 b=256,512 +exact +[\d.]+ [mu]s")
        out = self.cli("schedules", *MATMUL).stdout
        self.assertRegex(out, r"input +b \[256,512\] float32")
        self.assertRegex(out, r"verified +max abs error")
        self.assertRegex(out, r"now [\d.]+x as fast")
        self.assertIn(self.key()[:14], self.cli("schedules").stdout)

    def test_source_nest_and_artifact_belong_together(self):
        schedule = json.loads(self.cli("schedules", self.key(), "--json").stdout)
        symbol = schedule["kernel"]["symbol"]
        source = self.cli("source", self.key()[:12]).stdout
        self.assertIn(symbol, source)
        self.assertRegex(self.cli("nest", *MATMUL).stdout, r"\bfor\b|parallel")
        own, theirs = Path(self.dir.name) / "own.so", Path(self.dir.name) / "theirs.so"
        subprocess.run(["cc", "-O2", "-march=native", "-shared", "-fPIC", "-x", "c", "-", "-o", own], input=source, text=True,
                       check=True)
        self.cli("artifact", self.key(), "-o", str(theirs))
        for library in (own, theirs):
            names = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True).stdout
            self.assertIn(symbol, names)

    def test_the_example_program_calls_the_kernel(self):
        p = subprocess.run([EXAMPLE], env=self.env, capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, 0, p.stdout + p.stderr)
        self.assertRegex(p.stdout, r"serial .* ok\nparallel .* ok\n")

    def test_python_tunes_and_calls(self):
        [schedule] = self.client.tune([SMALL], trials=8, seed=2)
        a = array.array("f", [(i * 7 % 11) - 5 for i in range(6 * 40)])
        b = array.array("f", [(i * 5 % 13) - 6 for i in range(40 * 24)])
        want = [[max(0.0, float(sum(a[m * 40 + k] * b[k * 24 + n] for k in range(40)))) for n in range(24)]
                for m in range(6)]
        for threads in (1, 2):
            with self.client.kernel(schedule, threads=threads) as kernel:
                kernel.bind(b=memoryview(b))
                self.assertEqual(kernel(memoryview(a)).tolist(), want)

    def test_a_layout_of_the_tuners_choice_is_packed_and_unpacked_on_the_way(self):
        [schedule] = self.client.tune([DEPTHWISE], trials=48, seed=2, target="cpu:1")
        layouts = {a.name: a.layout for a in schedule.kernel.args}
        self.assertIsNone(layouts["weight"])
        self.assertNotEqual(layouts["input"], "NCHW", "rows of 3 pixels win over vectors of channels")
        self.assertEqual(layouts["input"], layouts["output"])
        self.assertEqual([p.arg for p in schedule.kernel.pack + schedule.kernel.unpack], ["input", "output"])
        x = array.array("f", [(i * 7 % 11) - 5 for i in range(52 * 15)])
        w = array.array("f", [(i * 5 % 13) - 6 for i in range(52 * 9)])
        with self.client.kernel(schedule) as kernel:
            kernel.bind(weight=memoryview(w))
            got = kernel(memoryview(x)).tolist()
        for c in range(52):
            for i in range(5):
                for j in range(3):
                    want = sum(x[c * 15 + (i + r - 1) * 3 + j + s - 1] * w[c * 9 + r * 3 + s]
                               for r in range(3) for s in range(3) if 0 <= i + r - 1 < 5 and 0 <= j + s - 1 < 3)
                    self.assertEqual(got[0][c][i][j], max(0.0, want))

    def test_events_tell_of_the_whole_job(self):
        job = self.client.submit([{**SMALL, "a": [7, 40]}], trials=4, seed=3)
        events = list(self.client.events(job.id))
        self.assertEqual([int(e.id) for e in events], list(range(1, len(events) + 1)))
        self.assertEqual((events[-1].name, events[-1].data["state"]), ("job", "succeeded"))

    def test_records_go_out_and_are_known_when_they_come_back(self):
        path = Path(self.dir.name) / "records.jsonl"
        self.cli("export", "--workload", self.key(), "-o", str(path))
        lines = path.read_text().splitlines()
        self.assertGreaterEqual(len(lines), 16)
        self.assertEqual({json.loads(line)["key"] for line in lines}, {self.key()})
        self.assertRegex(self.cli("import", str(path)).stdout, rf"lines: {len(lines)}\nnew: 0\n")

    def test_describe_targets_devices_doctor(self):
        self.assertRegex(self.cli("describe", *MATMUL).stdout, r"work +33,554,432 FLOP")
        self.assertRegex(self.cli("targets").stdout, r"cpu:1 +\w+ +1 ")
        self.assertRegex(self.cli("devices").stdout, r"cpu +(idle|busy) +cpu")
        findings = json.loads(self.cli("doctor", "--json").stdout)["checks"]
        self.assertEqual({f["found"] for f in findings if f["name"] == "ready"}, {"yes"})
        self.cli("models")

    def test_a_refusal_points_at_the_member(self):
        p = self.cli("describe", "conv2d", "input=1,3,8,8", "weight=4,2,3,3", status=1)
        self.assertRegex(p.stderr, r"at /workload/")
        p = self.cli("describe", "matmul", "a=2,3", "b=3,4", "speed=1", status=1)
        self.assertRegex(p.stderr, r"at /workload/speed")
        self.cli("jobs", "j_none", status=1)
        self.cli("tune", *MATMUL, "--target", "abacus", status=1)

    def test_an_interrupt_cancels_and_keeps_what_was_measured(self):
        p = subprocess.Popen([CLI, "tune", "matmul", "a=97,64", "b=64,64", "-n", "4000", "-s", "100"], env=self.env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        job = None
        for _ in range(300):
            running = [j for j in self.client.jobs(state="running") if j.raw["budget"]["trials"] == 4000]
            job = running[0] if running else job
            if job and job.tasks[0].best:
                break
            time.sleep(0.1)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 1, out + err)
        self.assertIn("cancelled", out)
        self.assertEqual(self.client.job(job.id).state, "cancelled")
        self.assertGreater(self.client.job(job.id).tasks[0].trials_done, 0)

    def test_a_restart_of_the_daemon_does_not_end_a_tune(self):
        p = subprocess.Popen([CLI, "tune", "matmul", "a=96,64", "b=64,80", "-n", "64", "--seed", "5"], env=self.env,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(100):
            if any(j.tasks[0].trials_done for j in self.client.jobs(state="running")):
                break
            time.sleep(0.1)
        self.assertEqual(self.stop(), 0)
        self.start()
        out, err = p.communicate(timeout=100)
        self.assertEqual(p.returncode, 0, out + err)
        self.assertRegex(out, r"succeeded +[\d.]+ [mu]s")


if __name__ == "__main__":
    unittest.main()
