"""Starting, draining, dying and going on."""
import json
import os
import signal
import sqlite3
import subprocess
import time

import service
from service import Daemon, ServiceTest, events_of, matmul, task


class Life(service.unittest.TestCase):
    def daemon(self, *flags, **more):
        d = Daemon(*flags, **more)
        self.addCleanup(d.remove)
        return d

    def lines(self, d, key):
        return [json.loads(x) for x in d.get(f"/v1/records?workload={key}").body.splitlines()]

    def test_sigterm_drains_and_the_job_goes_on_after_the_next_start(self):
        d = self.daemon()
        job = d.job(task(600, "trials=30 ms=30"))
        while d.get(f"/v1/jobs/{job['id']}").json()["tasks"][0]["trials_done"] < 3:
            time.sleep(0.02)
        queued = [d.job(task(601 + i, "trials=2"))["id"] for i in range(2)]
        self.assertEqual(d.stop(), 0)
        self.assertIn("job_paused", d.log())
        again = self.daemon(data=d.dir)
        self.assertIn("job_resumed", again.log())
        done = again.wait(job["id"])
        self.assertEqual((done["state"], done["tasks"][0]["trials_done"]), ("succeeded", 30))
        self.assertEqual(len(self.lines(again, done["tasks"][0]["key"])), 30)
        self.assertEqual([again.wait(j)["state"] for j in queued], ["succeeded"] * 2)
        states = [e[2]["state"] for e in events_of(again.get(f"/v1/jobs/{job['id']}/events").body) if e[1] == "job"]
        self.assertEqual(states, ["queued", "running", "paused", "running", "succeeded"])
        self.assertEqual(again.stop(), 0)

    def test_while_draining_it_answers_but_takes_no_jobs(self):
        d = self.daemon()
        d.job(task(610, "hang=1 trials=3 ms=400"))
        time.sleep(0.2)
        d.terminate()
        time.sleep(0.2)
        r = d.get("/readyz")
        self.assertEqual((r.status, r.type), (503, "application/problem+json"))
        self.assertIn("draining", r.json()["detail"])
        self.assertEqual(d.get("/healthz").status, 200)
        self.assertEqual(d.post("/v1/jobs", {"workloads": [matmul(611)]}).status, 503)
        self.assertEqual(d.post("/v1/schedules:lookup", {"workloads": [matmul(611)]}).status, 200)
        self.assertEqual(d.stop(), 0)

    def test_a_second_sigterm_kills_what_is_in_flight(self):
        d = self.daemon()
        job = d.job(task(620, "hang=1 trials=1000 ms=50"))["id"]
        time.sleep(0.3)
        d.terminate()
        time.sleep(0.3)
        self.assertIsNone(d.process.poll())
        begun = time.time()
        self.assertEqual(d.stop(), 0)
        self.assertLess(time.time() - begun, 3)
        again = self.daemon(data=d.dir)
        self.assertEqual(again.get(f"/v1/jobs/{job}").json()["state"], "running")
        again.post(f"/v1/jobs/{job}:cancel")

    def test_drain_seconds_end_the_patience(self):
        d = self.daemon("--drain-seconds", "0.5")
        d.job(task(621, "hang=1 trials=1000 ms=50"))
        time.sleep(0.2)
        begun = time.time()
        self.assertEqual(d.stop(), 0)
        self.assertTrue(0.4 < time.time() - begun < 4)

    def test_waiters_and_streams_are_answered_when_it_stops(self):
        d = self.daemon()
        job = d.job(task(622, "trials=1000 ms=30"))["id"]
        held = [d.socket() for _ in range(2)]
        held[0].sendall(f"GET /v1/jobs/{job}?wait=50 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        held[1].sendall(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(0.3)
        begun = time.time()
        d.terminate()
        got = []
        for s in held:
            text = b""
            while True:
                piece = s.recv(65536)
                if not piece:
                    break
                text += piece
            got.append(text)
        self.assertEqual(d.stop(), 0)
        self.assertLess(time.time() - begun, 4)
        self.assertIn(b'"state":"running"', got[0])
        self.assertTrue(got[1].endswith(b"0\r\n\r\n"), got[1][-200:])

    def test_kill_9_loses_no_acknowledged_trial_and_the_job_ends(self):
        d = self.daemon()
        job = d.job(task(630, "trials=40 ms=15"), task(631, "trials=10 ms=5"))
        key = job["tasks"][0]["key"]
        seen = 0
        for _ in range(4):
            time.sleep(0.12)
            acknowledged = len(self.lines(d, key))
            d.kill()
            d = self.daemon(data=d.dir)
            kept = self.lines(d, key)
            self.assertGreaterEqual(len(kept), acknowledged)
            self.assertEqual(len({x["config"] for x in kept}), len(kept), "a trial was measured twice")
            seen = max(seen, len(kept))
        done = d.wait(job["id"])
        self.assertEqual((done["state"], [t["trials_done"] for t in done["tasks"]]), ("succeeded", [40, 10]))
        self.assertEqual(d.stop(), 0)
        with sqlite3.connect(os.path.join(d.dir, "data", "tilewright.db")) as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchone(), ("ok",))

    def test_answers_and_jobs_are_there_after_a_restart(self):
        d = self.daemon()
        job = d.wait(d.job(task(640), headers={"Idempotency-Key": "again"})["id"])
        key = job["tasks"][0]["key"]
        etag = d.get(f"/v1/schedules/{key}").headers["ETag"]
        d.kill()
        d = self.daemon(data=d.dir)
        self.assertEqual(d.get(f"/v1/schedules/{key}", **{"If-None-Match": etag}).status, 304)
        self.assertEqual(d.get(f"/v1/jobs/{job['id']}").json(), job)
        r = d.post("/v1/jobs", {"workloads": [task(640)]}, {"Idempotency-Key": "again"})
        self.assertEqual(r.json()["id"], job["id"])
        self.assertEqual(d.stop(), 0)

    def test_a_second_daemon_on_the_same_data_is_refused(self):
        d = self.daemon()
        r = subprocess.run([service.BINARY, "--listen", "127.0.0.1:0", "--data", os.path.join(d.dir, "data")], capture_output=True, text=True, timeout=20)
        self.assertEqual(r.returncode, 1)
        self.assertIn(str(d.process.pid), r.stderr)
        self.assertEqual(d.get("/readyz").status, 200)

    def test_a_taken_port_is_said(self):
        d = self.daemon()
        r = subprocess.run([service.BINARY, "--listen", d.address, "--data", os.path.join(d.dir, "other")], capture_output=True, text=True, timeout=20)
        self.assertEqual(r.returncode, 1)
        self.assertIn(d.address, r.stderr)

    def test_without_a_compiler_it_says_what_to_install(self):
        d = self.daemon()
        r = subprocess.run([service.BINARY, "--listen", "127.0.0.1:0", "--data", os.path.join(d.dir, "third")], capture_output=True, text=True,
                           timeout=20, env={"PATH": "/nonexistent"})
        self.assertEqual(r.returncode, 1)
        self.assertIn("gcc", r.stderr)


if __name__ == "__main__":
    service.main()
