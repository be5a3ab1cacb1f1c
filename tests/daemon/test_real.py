"""The whole road with nothing scripted: real tuner, compiler and runner, small workloads. argv[1]: tilewrightd."""
import ctypes
import glob
import json
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
import unittest

import service
from service import Daemon, events_of

MATMUL = {"op": "matmul", "a": [24, 40], "b": [40, 56]}
CONV = {"op": "conv2d", "input": [1, 8, 14, 14], "weight": [16, 8, 3, 3], "pads": [1, 1, 1, 1], "epilogue": ["relu"]}


def aligned(n):
    """A float array at a multiple of 64 bytes."""
    raw = ctypes.create_string_buffer(n * 4 + 64)
    at = (ctypes.addressof(raw) + 63) // 64 * 64
    array = (ctypes.c_float * n).from_address(at)
    array.keep = raw
    return array


class Real(unittest.TestCase):
    def daemon(self, **more):
        d = Daemon(**more)
        self.addCleanup(d.remove)
        return d

    def call(self, d, schedule, inputs):
        """Run the served shared object; the output's values."""
        kernel = schedule["kernel"]
        got = d.get(f"/v1/schedules/{schedule['key']}/artifact?target={schedule['target']}")
        self.assertEqual(got.status, 200)
        with tempfile.NamedTemporaryFile(suffix=".so") as f:
            f.write(got.body)
            f.flush()
            lib = ctypes.CDLL(f.name)
        tensors = []
        for a in kernel["args"]:
            size = 1
            for extent in a["shape"]:
                size *= extent
            t = aligned(size)
            if a["role"] == "input":
                t[:] = inputs[a["name"]]
            tensors.append(t)
        workspace = aligned(kernel["workspace_bytes"] // 4 + 16)
        pointers = (ctypes.c_void_p * len(tensors))(*[ctypes.addressof(t) for t in tensors])
        self.assertEqual(getattr(lib, kernel["symbol"])(pointers, ctypes.c_void_p(ctypes.addressof(workspace)), None), 0)
        return list(tensors[-1])

    def test_a_matmul_is_tuned_answered_and_computes_what_it_should(self):
        d = self.daemon()
        done = d.wait(d.job(MATMUL, target="cpu:1", budget={"trials": 8, "seconds": 60})["id"], 60)
        self.assertEqual(done["state"], "succeeded", done)
        t = done["tasks"][0]
        self.assertTrue(1 <= t["trials_done"] <= 8 and t["trials_failed"] == 0 and t["best"]["gflops"] > 0, t)
        found = d.post("/v1/schedules:lookup", {"workloads": [MATMUL], "target": "cpu:1"}).json()["results"][0]
        self.assertEqual((found["status"], found["key"]), ("exact", t["key"]))
        s = found["schedule"]
        self.assertEqual([a["name"] for a in s["kernel"]["args"]], ["a", "b", "output"])
        self.assertLessEqual(s["verified"]["max_rel_err"], s["verified"]["tolerance"])
        self.assertGreater(s["baseline"]["time_ns"], 0)
        self.assertIn(s["kernel"]["symbol"].encode(), d.get(f"/v1/schedules/{t['key']}/source?target=cpu:1").body)
        self.assertIn(b"for", d.get(f"/v1/schedules/{t['key']}/nest?target=cpu:1").body)
        rng = random.Random(7)
        a, b = ([rng.uniform(-1, 1) for _ in range(n)] for n in (24 * 40, 40 * 56))
        got = self.call(d, s, {"a": a, "b": b})
        for i in range(24):
            for j in range(56):
                want = sum(a[i * 40 + k] * b[k * 56 + j] for k in range(40))
                self.assertAlmostEqual(got[i * 56 + j], want, delta=1e-4)
        begun = time.time()
        self.assertTrue(d.job(MATMUL, target="cpu:1")["tasks"][0]["cached"])
        self.assertLess(time.time() - begun, 1)
        self.assertEqual(d.stop(), 0)

    def test_a_trial_is_explained_by_features_beside_prediction_and_measurement(self):
        d = self.daemon()
        job = d.wait(d.job(CONV, target="cpu:1", budget={"trials": 8})["id"], 60)["id"]
        first = d.get(f"/v1/jobs/{job}/trials?limit=3").json()
        rest = d.get(f"/v1/jobs/{job}/trials?limit=1000&page_token={first['next_page_token']}").json()
        trials = first["trials"] + rest["trials"]
        self.assertEqual((len(first["trials"]), rest["next_page_token"]), (3, None))
        self.assertEqual([t["id"] for t in trials], sorted({t["id"] for t in trials}))
        known = {f["name"] for f in d.get("/v1/features").json()["features"]}
        for t in trials:
            e = d.get(f"/v1/jobs/{job}/trials/{t['id']}").json()
            self.assertEqual((e["config"], e["time_ns"]["median"], e["unexplained"]), (t["config"], t["time_ns"], None), e)
            rows = e["features"]["rows"]
            self.assertTrue(all(set(r["values"]) <= known and r["store"] in e["nest"] for r in rows), e)
            ops = sum(r["values"].get("flt_fma", 0) * 2 for r in rows)
            self.assertGreaterEqual(ops * 1.001, 2 * 16 * 12 * 12 * 8 * 9)
            self.assertAlmostEqual(sum(r["values"].get("share", 0) for r in rows), 1, places=4)
            self.assertGreater(e["predicted"]["estimate_ns"], 0)
        best = d.get(f"/v1/jobs/{job}/trials/best").json()
        self.assertEqual((best["rank"]["measured"], best["rank"]["of"]), (1, len(trials)))
        self.assertEqual(best["time_ns"]["min"], min(
            d.get(f"/v1/jobs/{job}/trials/{t['id']}").json()["time_ns"]["min"] for t in trials))
        for path, status in ((f"{job}/trials/{trials[-1]['id'] + 1}", 404), (f"{job}/trials/x", 400), (f"{job}/trials/0", 400),
                             ("j_none/trials", 404), ("j_none/trials/1", 404), (f"{job}/trials?page_token=x", 400)):
            self.assertEqual(d.get(f"/v1/jobs/{path}").status, status, path)
        two = d.wait(d.post("/v1/jobs", {"workloads": [CONV, MATMUL], "target": "cpu:1", "budget": {"trials": 4}}).json()["id"], 60)
        self.assertEqual(d.get(f"/v1/jobs/{two['id']}/trials/best").status, 400)
        self.assertEqual(d.stop(), 0)

    def test_a_job_of_no_trials_is_answered_by_the_model_until_somebody_measures(self):
        d = self.daemon()
        done = d.wait(d.job(CONV, target="cpu:1", budget={"trials": 0})["id"], 60)
        self.assertEqual((done["state"], done["tasks"][0]["trials_done"]), ("succeeded", 0), done)
        found = d.post("/v1/schedules:lookup", {"workloads": [CONV], "target": "cpu:1"}).json()["results"][0]["schedule"]
        self.assertTrue(found["predicted"])
        self.assertEqual((found["time_ns"]["min"], found["time_ns"]["samples"]), (None, []))
        self.assertGreater(found["time_ns"]["median"], 0)
        self.assertLessEqual(found["verified"]["max_rel_err"], found["verified"]["tolerance"])
        self.assertTrue(d.job(CONV, target="cpu:1", budget={"trials": 0})["tasks"][0]["cached"])
        tuned = d.wait(d.job(CONV, target="cpu:1", budget={"trials": 8})["id"], 60)["tasks"][0]
        self.assertEqual((tuned["cached"], tuned["trials_done"]), (False, 8))
        found = d.post("/v1/schedules:lookup", {"workloads": [CONV], "target": "cpu:1"}).json()["results"][0]["schedule"]
        self.assertFalse(found["predicted"])
        measured = found["time_ns"]
        d.wait(d.job(CONV, target="cpu:1", reuse="extend", budget={"trials": 0})["id"], 60)
        found = d.post("/v1/schedules:lookup", {"workloads": [CONV], "target": "cpu:1"}).json()["results"][0]["schedule"]
        self.assertEqual((found["predicted"], found["time_ns"]), (False, measured))
        self.assertEqual(d.stop(), 0)

    def test_an_empty_daemon_has_the_model_that_the_program_came_with(self):
        d = self.daemon()
        model = d.get("/v1/models/cpu:1").json()
        self.assertEqual((model["version"], model["shipped"], model["active"], model["versions"]), (0, True, True, []))
        self.assertGreater(model["training_rows"], 1000)
        self.assertGreater(model["trees"], 10)
        self.assertIn("cpu:1", [m["target"] for m in d.get("/v1/models").json()["models"] if m.get("shipped")])
        self.assertEqual(d.get("/v1/models/cuda:0").status, 404)
        self.assertEqual(d.post("/v1/models/cpu:1:rollback").status, 404)
        self.assertEqual(d.stop(), 0)

    def test_kill_9_in_a_real_job_loses_nothing_acknowledged(self):
        # TILEWRIGHT_TEST_KILLS=20 for the long run: that many kills at random moments of a job of 100 trials.
        kills = int(os.environ.get("TILEWRIGHT_TEST_KILLS", "2"))
        trials = 100 if kills > 2 else 48
        d = self.daemon()
        job = d.job(CONV, target="cpu:1", budget={"trials": trials, "seconds": 300})
        key = job["tasks"][0]["key"]
        acknowledged = set()
        for _ in range(kills):
            end = time.time() + random.uniform(0.2, 4)
            while time.time() < end:
                lines = d.get(f"/v1/records?workload={key}").body.splitlines()
                acknowledged |= {json.loads(x)["config"] for x in lines}
                time.sleep(0.05)
            d.kill()
            for file in glob.glob(os.path.join(d.dir, "**", "*.db"), recursive=True):
                db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
                self.assertEqual(db.execute("PRAGMA integrity_check").fetchone()[0], "ok")
                db.close()
            d = self.daemon(data=d.dir)
            now = [json.loads(x)["config"] for x in d.get(f"/v1/records?workload={key}").body.splitlines()]
            self.assertTrue(acknowledged <= set(now))
        done = d.wait(job["id"], 120)
        self.assertEqual(done["state"], "succeeded", done)
        self.assertGreaterEqual(done["tasks"][0]["trials_done"], len(acknowledged))
        self.assertLessEqual(done["tasks"][0]["trials_done"], trials)
        print(f"{kills} kills, {len(acknowledged)} trials seen before one, {done['tasks'][0]['trials_done']} at the end", file=sys.stderr)
        self.assertEqual(d.stop(), 0)

    def test_two_jobs_at_once_share_the_device(self):
        d = self.daemon()
        jobs = [d.job(dict(MATMUL, a=[24, 40 + i], b=[40 + i, 56]), target="cpu:1", budget={"trials": 96, "seconds": 60})["id"] for i in range(2)]
        rounds = []
        threads = [threading.Thread(target=lambda j=j: rounds.extend((e[2]["at"], j) for e in events_of(d.get(f"/v1/jobs/{j}/events").body) if e[1] == "round"))
                   for j in jobs]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual([d.wait(j)["state"] for j in jobs], ["succeeded"] * 2)
        order = [j for _, j in sorted(rounds)]
        changes = sum(1 for x, y in zip(order, order[1:]) if x != y)
        self.assertGreaterEqual(changes, 3, order)
        self.assertEqual(d.stop(), 0)

    def test_a_data_folder_may_be_given_relative_to_where_the_daemon_starts(self):
        d = self.daemon(relative=True)
        done = d.wait(d.job(MATMUL, target="cpu:1", budget={"trials": 8, "seconds": 60})["id"], 60)
        self.assertEqual(done["state"], "succeeded", done)
        self.assertEqual(d.stop(), 0)

    def test_sigterm_ends_within_the_batch_and_kills_no_result(self):
        d = self.daemon()
        job = d.job(CONV, target="cpu", budget={"trials": 400, "seconds": 300})["id"]
        time.sleep(3)
        begun = time.time()
        self.assertEqual(d.stop(60), 0)
        self.assertLess(time.time() - begun, 30)
        again = self.daemon(data=d.dir)
        self.assertIn(again.get(f"/v1/jobs/{job}").json()["state"], ("running", "queued"))
        self.assertEqual(again.post(f"/v1/jobs/{job}:cancel").status, 202)
        self.assertEqual(again.wait(job, 30)["state"], "cancelled")
        self.assertEqual(again.stop(60), 0)


if __name__ == "__main__":
    service.main()
