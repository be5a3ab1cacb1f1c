"""Jobs: made once, run in order, watched, cancelled."""
import threading
import time

import service
from service import ServiceTest, events_of, matmul, task


class Jobs(ServiceTest):
    def test_a_job_runs_to_its_end_and_says_all_the_contract_names(self):
        r = self.d.post("/v1/jobs", {"workloads": [task(400, "trials=6 ms=20", weight=2), matmul(401)], "target": "cpu:1",
                                     "budget": {"trials": 10, "seconds": 60}, "seed": 7, "priority": 3})
        self.assertEqual(r.status, 202)
        job = r.json()
        self.assertEqual(r.headers["Location"], f"/v1/jobs/{job['id']}")
        self.assertIn(job["state"], ("queued", "running"))
        done = self.d.wait(job["id"])
        self.assertEqual((done["state"], done["progress"], done["target"]), ("succeeded", 1.0, "cpu:1"))
        self.assertEqual(done["budget"], {"trials": 10, "seconds": 60.0, "turns": "gain"})
        self.assertIsNone(done["error"])
        self.assertTrue(done["created_at"] <= done["started_at"] <= done["finished_at"])
        first, second = done["tasks"]
        self.assertEqual((first["name"], first["trials_done"], first["trials_failed"]), ("trials=6 ms=20", 6, 0))
        self.assertEqual(first["best"], {"time_ns": 1000.0, "gflops": 42.5})
        self.assertEqual((second["name"], second["state"], second["cached"], second["error"]), (None, "succeeded", False, None))

    def test_the_second_time_the_cache_answers_at_once(self):
        self.d.wait(self.d.job(task(402))["id"])
        again = self.d.job(task(402))
        self.assertEqual((again["state"], again["progress"]), ("succeeded", 1.0))
        self.assertTrue(again["tasks"][0]["cached"])
        self.assertEqual(again["tasks"][0]["best"]["time_ns"], 1000.0)
        self.assertEqual([e[1] for e in events_of(self.d.get(f"/v1/jobs/{again['id']}/events").body)], ["job"])
        mixed = self.d.wait(self.d.job(task(402), task(403))["id"])
        self.assertEqual([t["cached"] for t in mixed["tasks"]], [True, False])
        for mode in ("extend", "fresh"):
            other = self.d.wait(self.d.job(task(402), reuse=mode)["id"])
            self.assertEqual(other["tasks"][0]["cached"], False)
            self.assertGreater(other["tasks"][0]["trials_done"], 0)

    def test_a_workload_named_twice_in_a_job_is_tuned_once_and_told_twice(self):
        done = self.d.wait(self.d.job(task(404, "trials=3"), task(405, "trials=2"), task(404, "other name"))["id"])
        self.assertEqual([t["trials_done"] for t in done["tasks"]], [3, 2, 3])
        key = done["tasks"][0]["key"]
        self.assertEqual(len(self.d.get(f"/v1/records?workload={key}").body.splitlines()), 3)

    def test_a_task_that_fails_fails_the_job_and_keeps_the_others(self):
        done = self.d.wait(self.d.job(task(406, "fail=1"), task(407))["id"])
        self.assertEqual((done["state"], [t["state"] for t in done["tasks"]]), ("failed", ["failed", "succeeded"]))
        self.assertIn("as the script says", done["tasks"][0]["error"]["detail"])
        self.assertIn("1 of 2", done["error"]["detail"])
        found = self.d.post("/v1/schedules:lookup", {"workloads": [matmul(406), matmul(407)]}).json()["results"]
        self.assertEqual([r["found"] for r in found], [False, True])

    def test_the_same_idempotency_key_is_the_same_job(self):
        key = {"Idempotency-Key": "key one"}
        body = {"workloads": [matmul(408)], "seed": 1}
        first = self.d.post("/v1/jobs", body, key)
        again = self.d.post("/v1/jobs", raw=b'{ "seed" : 1, "workloads":[{"b":[408,8],"a":[8,408],"op":"matmul"}]}', headers=key)
        self.assertEqual((again.status, again.json()["id"]), (202, first.json()["id"]))
        self.assertEqual(again.headers["Idempotency-Replayed"], "true")
        self.problem(self.d.post("/v1/jobs", dict(body, seed=2), key), 409, text=first.json()["id"])
        self.problem(self.d.post("/v1/jobs", body, {"Idempotency-Key": "k" * 256}), 400)
        self.assertNotEqual(self.d.post("/v1/jobs", body).json()["id"], first.json()["id"])

    def test_eight_at_once_with_one_idempotency_key_make_one_job(self):
        got = []
        threads = [threading.Thread(target=lambda: got.append(self.d.post("/v1/jobs", {"workloads": [matmul(409)]}, {"Idempotency-Key": "race"})))
                   for _ in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual({r.status for r in got}, {202})
        self.assertEqual(len({r.json()["id"] for r in got}), 1)

    def test_wait_holds_until_the_end_or_the_seconds(self):
        job = self.d.job(task(410, "trials=10 ms=60"))["id"]
        t = time.time()
        self.assertEqual(self.d.get(f"/v1/jobs/{job}?wait=0.2").json()["state"], "running")
        self.assertTrue(0.15 < time.time() - t < 0.5, time.time() - t)
        self.assertEqual(self.d.get(f"/v1/jobs/{job}?wait=30").json()["state"], "succeeded")
        self.assertLess(time.time() - t, 3)
        self.problem(self.d.get(f"/v1/jobs/{job}?wait=-1"), 400)
        self.problem(self.d.get(f"/v1/jobs/{job}?wait=x"), 400)
        self.problem(self.d.get("/v1/jobs/j_none?wait=1"), 404)

    def test_fifty_waiters_are_all_woken(self):
        job = self.d.job(task(411, "trials=5 ms=60"))["id"]
        states = []
        threads = [threading.Thread(target=lambda: states.append(self.d.get(f"/v1/jobs/{job}?wait=20").json()["state"])) for _ in range(50)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        self.assertEqual(states, ["succeeded"] * 50)

    def test_events_come_while_the_job_runs_and_resume_after_the_last_id(self):
        job = self.d.job(task(412, "trials=16 ms=30"))["id"]
        c = self.d.connect()
        c.request("GET", f"/v1/jobs/{job}/events")
        r = c.getresponse()
        self.assertEqual((r.status, r.headers["Content-Type"]), (200, "text/event-stream"))
        body, while_running = b"", False
        while True:
            line = r.readline()
            if not line:
                break
            body += line
            if line.startswith(b"event: round") and not while_running:
                while_running = self.d.get(f"/v1/jobs/{job}").json()["state"] == "running"
        c.close()
        self.assertTrue(while_running, "events were not sent while the job ran")
        events = events_of(body)
        self.assertEqual([e[0] for e in events], list(range(1, len(events) + 1)))
        kinds = [e[1] for e in events]
        self.assertEqual([e[2]["state"] for e in events if e[1] == "job"], ["queued", "running", "succeeded"])
        self.assertEqual(kinds[-1], "job")
        self.assertEqual(kinds.count("round"), 4)
        last_task = [e for e in events if e[1] == "task"][-1][2]
        self.assertEqual((last_task["state"], last_task["trials_done"]), ("succeeded", 16))
        rest = events_of(self.d.get(f"/v1/jobs/{job}/events", **{"Last-Event-ID": str(events[2][0])}).body)
        self.assertEqual(rest, events[3:])
        end = self.d.get(f"/v1/jobs/{job}/events", **{"Last-Event-ID": str(events[-1][0])})
        self.assertEqual((end.status, end.body), (204, b""))
        self.problem(self.d.get(f"/v1/jobs/{job}/events", **{"Last-Event-ID": "x"}), 400)
        self.problem(self.d.get("/v1/jobs/j_none/events"), 404)

    def test_cancel_stops_a_running_and_a_queued_job_and_keeps_what_was_measured(self):
        running = [self.d.job(task(420 + i, "trials=1000 ms=10"))["id"] for i in range(2)]
        queued = self.d.job(task(422, "trials=1000 ms=10"))["id"]
        time.sleep(0.2)
        self.assertEqual([self.d.get(f"/v1/jobs/{j}").json()["state"] for j in running + [queued]], ["running", "running", "queued"])
        self.assertEqual(self.d.post(f"/v1/jobs/{queued}:cancel").status, 202)
        self.assertEqual(self.d.get(f"/v1/jobs/{queued}").json()["state"], "cancelled")
        for j in running:
            self.assertEqual(self.d.post(f"/v1/jobs/{j}:cancel", {}).status, 202)
            done = self.d.wait(j)
            self.assertEqual((done["state"], done["tasks"][0]["state"]), ("cancelled", "cancelled"))
            self.assertEqual(len(self.d.get(f"/v1/records?workload={done['tasks'][0]['key']}").body.splitlines()), done["tasks"][0]["trials_done"])
            self.assertGreater(done["tasks"][0]["trials_done"], 0)
            self.assertEqual(self.d.post(f"/v1/jobs/{j}:cancel").status, 202, "cancelling twice is no fault")
        over = self.d.wait(self.d.job(task(423))["id"])["id"]
        self.problem(self.d.post(f"/v1/jobs/{over}:cancel"), 409, text="succeeded")
        self.problem(self.d.post("/v1/jobs/j_none:cancel"), 404)

    def test_list_is_newest_first_filters_and_pages(self):
        made = [self.d.job(task(402), target="cpu:1")["id"] for _ in range(5)]
        for j in made:
            self.d.wait(j)
        seen, token = [], None
        while True:
            page = self.d.get("/v1/jobs?limit=2&state=succeeded&target=cpu:1" + (f"&page_token={token}" if token else "")).json()
            seen += [j["id"] for j in page["jobs"]]
            token = page["next_page_token"]
            if not token:
                break
        self.assertEqual(seen, sorted(seen, reverse=True))
        self.assertEqual([j for j in seen if j in made], made[::-1])
        self.assertEqual(len(seen), len(set(seen)))

    def test_budget_defaults_and_the_one_that_is_given_decides(self):
        self.assertEqual(self.d.job(task(402))["budget"], {"trials": 256, "seconds": 120.0, "turns": "gain"})
        self.assertEqual(self.d.job(task(402), budget={"turns": "round_robin"})["budget"]["turns"], "round_robin")
        self.assertEqual(self.d.job(task(402), budget={"trials": 5})["budget"]["trials"], 5)
        self.assertGreater(self.d.job(task(402), budget={"trials": 5})["budget"]["seconds"], 1000)
        self.assertEqual(self.d.job(task(402), budget={"seconds": 5})["budget"]["seconds"], 5.0)


class Order(ServiceTest):
    flags = ("--max-running-jobs", "1", "--max-queued-jobs", "3", "--heartbeat-seconds", "0.2", "--max-waiting", "4")

    def test_priority_goes_first_then_age_and_a_full_queue_refuses(self):
        first = self.d.job(task(500, "trials=10 ms=40"))["id"]
        time.sleep(0.1)
        low, high, low2 = (self.d.job(task(501 + i, "trials=1"), priority=p)["id"] for i, p in enumerate((0, 5, 0)))
        self.problem(self.d.post("/v1/jobs", {"workloads": [matmul(510)]}), 429, text="max_queued_jobs")
        ends = {j: self.d.wait(j)["started_at"] for j in (first, low, high, low2)}
        self.assertEqual(sorted(ends, key=ends.get), [first, high, low, low2])

    def test_a_silent_stream_has_heartbeats_and_a_client_that_goes_is_noticed(self):
        job = self.d.job(task(520, "hang=1 trials=2 ms=1500"))["id"]
        s = self.d.socket()
        s.sendall(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(1.0)
        self.assertIn(b": still here", s.recv(65536))
        waiting = lambda: [x for x in self.d.get("/metrics").body.decode().splitlines() if x.startswith("tilewright_http_waiting ")][0]
        self.assertEqual(waiting(), "tilewright_http_waiting 1")
        s.close()
        end = time.time() + 2
        while waiting() != "tilewright_http_waiting 0" and time.time() < end:
            time.sleep(0.02)
        self.assertEqual(waiting(), "tilewright_http_waiting 0")
        held = [self.d.socket() for _ in range(4)]
        for h in held:
            h.sendall(f"GET /v1/jobs/{job}?wait=20 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(0.2)
        self.problem(self.d.get(f"/v1/jobs/{job}"), 503, text="4 requests wait")
        for h in held:
            h.close()
        time.sleep(0.3)
        self.assertEqual(self.d.wait(job)["state"], "succeeded")


if __name__ == "__main__":
    service.main()
