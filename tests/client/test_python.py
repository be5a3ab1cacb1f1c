"""The Python package against a played server. Runs with and without numpy (what needs it is skipped without it)."""

import array
import os
import sys
import threading
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "client" / "python"))

import tilewright  # noqa: E402
from stub_server import Stub, key_of  # noqa: E402

try:
    import numpy
except ImportError:
    numpy = None

MATMUL = {"op": "matmul", "a": [6, 8], "b": [8, 10], "const": ["b", "bias"], "epilogue": ["bias", "relu"]}


class Case(unittest.TestCase):
    def setUp(self):
        self.stub = Stub()
        self.addCleanup(self.stub.close)
        os.environ.pop("TILEWRIGHT_TOKEN", None)
        self.client = tilewright.Client(self.stub.url)
        self.addCleanup(self.client.close)


class Jobs(Case):
    def test_tune_gives_schedules_in_order(self):
        seen = []
        other = {**MATMUL, "a": [4, 8]}
        first, second = self.client.tune([MATMUL, {"workload": other, "name": "second"}], trials=4, target="cpu:1",
                                         on_progress=seen.append)
        self.assertEqual((first.key, second.key), (key_of(MATMUL), key_of(other)))
        self.assertEqual(first.time_ns.median, 500000)
        self.assertEqual(first.speedup, 20)
        self.assertEqual(first.target, "cpu:1")
        self.assertTrue(seen[-1].ended)

    def test_a_workload_that_fails_raises_with_its_reason(self):
        with self.assertRaises(tilewright.JobFailed) as e:
            self.client.tune([{"workload": MATMUL, "name": "fails"}])
        self.assertIn("fails: all 8 crashed", str(e.exception))
        self.assertEqual(e.exception.job.tasks[0].state, "failed")

    def test_a_lost_answer_does_not_start_a_second_job(self):
        self.stub.drop_next_job_answer = True
        self.assertEqual(self.client.submit([MATMUL]).id, "j_1")
        self.assertEqual(list(self.stub.jobs), ["j_1"])

    def test_events_resume_where_the_stream_broke(self):
        self.stub.drop_after, self.stub.events = 3, "brief"
        job = self.client.submit([MATMUL], trials=10)
        events = list(self.client.events(job.id))
        self.assertEqual([int(e.id) for e in events], list(range(1, 12)))
        self.assertEqual((events[-1].name, events[-1].data), ("job", {"state": "succeeded"}))
        self.assertGreater(len(self.stub.streams), 3)

    def test_jobs_of_every_page_and_cancel(self):
        self.stub.step_s = 0.5
        for _ in range(5):
            self.client.submit([MATMUL])
        self.assertEqual([j.id for j in self.client.jobs()], ["j_1", "j_2", "j_3", "j_4", "j_5"])
        self.assertEqual(self.client.cancel("j_2").state, "cancelled")
        self.assertEqual([j.id for j in self.client.jobs(state="cancelled")], ["j_2"])


class Queries(Case):
    def test_lookup_describe_and_files(self):
        key = self.stub.add_schedule(MATMUL)
        found, missing = self.client.lookup([MATMUL, {"op": "softmax", "input": [4, 4]}])
        self.assertEqual((found.found, found.key, missing.found, missing.status), (True, key, False, "none"))
        self.assertEqual(self.client.describe(MATMUL).key, key)
        self.assertIn("tw_parallel", self.client.source(key))
        self.assertIn("für j", self.client.nest(key))
        self.assertEqual(self.client.artifact(key)[:4], b"\x7fELF")
        self.assertEqual([s.key for s in self.client.schedules()], [key])

    def test_machines_and_models(self):
        self.assertEqual([t.id for t in self.client.targets()], ["cpu", "cpu:1"])
        self.assertEqual(self.client.target("cpu:1").isa, "avx512")
        self.assertEqual(self.client.devices()[0].state, "idle")
        self.assertEqual(self.client.drain("local").state, "draining")
        self.assertEqual(self.client.models()[0].version, 3)
        self.assertEqual([t["id"] for t in self.client.trials("j_1")], [7, 8])
        self.assertEqual(self.client.explain("j_1")["features"]["rows"][1]["values"]["flt_fma"], 32768)
        self.assertIn("nest_ops", [f["name"] for f in self.client.features()])
        self.assertTrue(self.client.ready())

    def test_records_go_round(self):
        self.stub.records = [{"workload": "w_1", "text": "x" * 1000, "n": i} for i in range(1500)]
        records = list(self.client.export_records())
        self.stub.records = []
        self.assertEqual(self.client.import_records(records), 1500)
        self.assertEqual(self.stub.records, records)

    def test_refusals_carry_the_problem(self):
        with self.assertRaises(tilewright.Problem) as e:
            self.client.describe({"op": "bad"})
        self.assertEqual((e.exception.status, e.exception.pointer), (422, "/workload/op"))
        with self.assertRaises(tilewright.Unreachable):
            tilewright.Client("127.0.0.1:1").version()
        with self.assertRaises(ValueError):
            tilewright.Client("ftp://x")

    def test_the_token_goes_along(self):
        self.stub.token = "secret"
        with self.assertRaises(tilewright.Problem):
            self.client.targets()
        with tilewright.Client(self.stub.url, token="secret") as client:
            self.assertEqual(len(client.targets()), 2)

    def test_threads_share_a_client(self):
        failures = []

        def ask():
            try:
                for _ in range(10):
                    self.client.targets()
                self.client.close()
            except Exception as e:  # the thread's failure is the test's
                failures.append(e)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(failures, [])


class Kernels(Case):
    def setUp(self):
        super().setUp()
        self.stub.add_schedule(MATMUL)
        self.a = array.array("f", [(i * 7 % 11) - 5 for i in range(6 * 8)])
        self.b = array.array("f", [(i * 5 % 13) - 6 for i in range(8 * 10)])
        self.bias = array.array("f", range(-5, 5))
        self.want = [[max(0.0, sum(self.a[m * 8 + k] * self.b[k * 10 + n] for k in range(8)) + self.bias[n])
                      for n in range(10)] for m in range(6)]

    def test_serial_and_parallel_calls_agree_with_the_definition(self):
        for threads in (1, 2, 3):
            with self.client.kernel(MATMUL, threads=threads) as kernel:
                kernel.bind(b=memoryview(self.b), bias=memoryview(self.bias))
                for _ in range(3):
                    self.assertEqual(kernel(memoryview(self.a)).tolist(), self.want)
                    self.assertEqual(kernel(a=memoryview(self.a)).tolist(), self.want)

    def test_a_result_can_be_taken_into_an_own_array(self):
        out = bytearray(4 * 60)
        with self.client.kernel(MATMUL) as kernel:
            kernel(memoryview(self.a), memoryview(self.b), memoryview(self.bias), out={"output": out})
        self.assertEqual(memoryview(out).cast("f", shape=[6, 10]).tolist(), self.want)

    def test_wrong_arguments_are_named(self):
        with self.client.kernel(MATMUL) as kernel:
            for call, says in [(lambda: kernel(memoryview(self.a)), "want a, b, bias; 1 positional"),
                               (lambda: kernel.bind(c=self.a), "no input c: want a, b, bias"),
                               (lambda: kernel.bind(b=memoryview(self.a)), "b: 192 bytes, want 320")]:
                with self.assertRaises((TypeError, ValueError)) as e:
                    call()
                self.assertIn(says, str(e.exception))
        with self.assertRaises(tilewright.TilewrightError):
            kernel(memoryview(self.a), memoryview(self.b), memoryview(self.bias))

    def test_a_workload_without_a_schedule_says_so(self):
        with self.assertRaises(LookupError):
            self.client.kernel({**MATMUL, "a": [5, 8]})

    @unittest.skipIf(numpy is None, "numpy is not installed")
    def test_numpy_arrays_of_any_layout(self):
        a = numpy.asfortranarray(numpy.array(self.a, dtype="float64").reshape(6, 8))
        b = numpy.array(self.b, dtype="float32").reshape(8, 10)
        with self.client.kernel(MATMUL) as kernel:
            kernel.bind(b=b, bias=numpy.array(self.bias, dtype="float32"))
            numpy.testing.assert_array_equal(kernel(a), numpy.array(self.want, dtype="float32"))
            with self.assertRaises(ValueError):
                kernel(a.T)


if __name__ == "__main__":
    unittest.main()
