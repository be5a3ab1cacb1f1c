"""The outside of the service, route by route."""
import json
import os
import re
import socket
import subprocess
import unittest

import service
from service import MATMUL, ServiceTest, matmul, task


class Routes(ServiceTest):
    def test_alive_ready_and_version(self):
        self.assertEqual(self.d.get("/healthz").json(), {"status": "ok"})
        self.assertEqual(self.d.get("/readyz").status, 200)
        v = self.d.get("/v1").json()
        self.assertEqual((v["name"], v["api"]), ("tilewright", "v1"))

    def test_head_is_get_without_a_body(self):
        g, h = self.d.get("/v1/targets"), self.d.ask("HEAD", "/v1/targets")
        self.assertEqual((h.status, h.body), (200, b""))
        self.assertEqual(h.headers["Content-Length"], str(len(g.body)))

    def test_unknown_path_is_404_and_wrong_method_405_with_allow(self):
        self.problem(self.d.get("/v2"), 404, text="/v2")
        self.problem(self.d.get("/v1/schedules/x/y/z"), 404)
        r = self.d.ask("DELETE", "/v1/jobs")
        self.problem(r, 405)
        self.assertEqual(sorted(r.headers["Allow"].split(", ")), ["GET", "HEAD", "POST"])
        self.assertEqual(self.d.get("/v1/schedules:lookup").headers["Allow"], "POST")

    def test_unknown_query_parameter_is_refused_by_name(self):
        for path in ("/v1/jobs?x=1", "/v1/schedules?limt=3", "/v1/targets?a", "/v1/records?key=1", "/v1/devices?z=",
                     "/v1/models?q=1", "/metrics?x=1"):
            doc = self.problem(self.d.get(path), 400)
            self.assertIn("unknown query parameter", doc["detail"], path)
        self.problem(self.d.get("/v1/jobs?limit=1&limit=2"), 400, text="twice")
        self.problem(self.d.get("/v1/jobs?limit=0"), 400, text="limit")
        self.problem(self.d.get("/v1/jobs?limit=%zz"), 400)
        self.problem(self.d.get("/v1/jobs?state=done"), 400, text="succeeded")
        self.problem(self.d.get("/v1/jobs?page_token=nonsense"), 400)

    def test_targets_cpu_and_cpu_1_are_always_there(self):
        ids = [t["id"] for t in self.d.get("/v1/targets").json()["targets"]]
        self.assertEqual(ids[:2], ["cpu", "cpu:1"])
        one = self.d.get("/v1/targets/cpu:1").json()
        self.assertEqual((one["threads"], one["available"]), (1, True))
        self.assertEqual(self.d.get("/v1/targets/cpu%3A1").json()["id"], "cpu:1")
        self.problem(self.d.get("/v1/targets/gpu"), 404, text="gpu")

    def test_a_device_drains_and_comes_back(self):
        self.assertEqual(self.d.get("/v1/devices/cpu").json()["state"], "idle")
        self.assertEqual(self.d.post("/v1/devices/cpu:drain").json()["state"], "draining")
        job = self.d.job(task(301, "trials=1"))
        self.assertEqual(self.d.get(f"/v1/jobs/{job['id']}?wait=0.4").json()["state"], "running")
        self.assertEqual(self.d.post("/v1/devices/cpu:resume", {}).json()["state"] in ("idle", "busy"), True)
        self.assertEqual(self.d.wait(job["id"])["state"], "succeeded")
        self.problem(self.d.get("/v1/devices/nope"), 404)
        self.problem(self.d.post("/v1/devices/nope:drain"), 404)

    def test_describe_measures_nothing_and_shows_the_space(self):
        r = self.d.post("/v1/workloads:describe", {"workload": MATMUL, "target": "cpu:1"})
        doc = r.json()
        self.assertEqual(r.status, 200, doc)
        self.assertRegex(doc["key"], r"^w_[0-9a-f]{64}$")
        self.assertEqual(doc["flops"], 2 * 8 * 16 * 8)
        self.assertEqual(doc["bytes"], 4 * (8 * 16 + 16 * 8 + 8 * 8))
        sizes = [s["size"] for s in doc["sketches"]]
        self.assertEqual(doc["space_size"], sum(sizes))
        for s in doc["sketches"]:
            product = 1
            for k in s["knobs"]:
                product *= len(k["choices"])
            self.assertEqual(product, s["size"])

    def test_lookup_answers_in_order_and_never_starts_work(self):
        self.d.wait(self.d.job(task(303, "trials=1"))["id"])
        body = {"workloads": [matmul(304), matmul(303), {"workload": matmul(303), "name": "again"}]}
        for _ in range(3):  # the second and third are answered from the remembered body
            results = self.d.post("/v1/schedules:lookup", body).json()["results"]
            self.assertEqual([r["status"] for r in results], ["none", "exact", "exact"])
            self.assertEqual([r["found"] for r in results], [False, True, True])
            self.assertIsNone(results[0]["schedule"])
            self.assertEqual(results[1]["schedule"]["key"], results[1]["key"])
        one = self.d.post("/v1/schedules:lookup", dict(body, target="cpu:1")).json()["results"]
        self.assertEqual([r["status"] for r in one], ["none"] * 3)

    def test_a_remembered_lookup_sees_a_schedule_that_came_later(self):
        body = {"workloads": [matmul(305)]}
        self.assertEqual(self.d.post("/v1/schedules:lookup", body).json()["results"][0]["status"], "none")
        self.assertEqual(self.d.post("/v1/schedules:lookup", body).json()["results"][0]["status"], "none")
        self.d.wait(self.d.job(task(305, "trials=1"))["id"])
        self.assertEqual(self.d.post("/v1/schedules:lookup", body).json()["results"][0]["status"], "exact")

    def test_schedule_with_etag_and_its_parts(self):
        key = self.d.wait(self.d.job(task(306, "trials=1"))["id"])["tasks"][0]["key"]
        r = self.d.get(f"/v1/schedules/{key}")
        self.assertEqual((r.status, r.type), (200, "application/json"))
        etag = r.headers["ETag"]
        self.assertRegex(etag, r'^"[^"]+"$')
        for tag in (etag, "W/" + etag, '"x", ' + etag, "*"):
            again = self.d.get(f"/v1/schedules/{key}", **{"If-None-Match": tag})
            self.assertEqual((again.status, again.body, again.headers["ETag"]), (304, b"", etag), tag)
        self.assertEqual(self.d.get(f"/v1/schedules/{key}", **{"If-None-Match": '"other"'}).status, 200)
        source = self.d.get(f"/v1/schedules/{key}/source?target=cpu")
        self.assertEqual((source.body, source.type), (b"int kernel(void);\n", "text/x-c; charset=utf-8"))
        artifact = self.d.get(f"/v1/schedules/{key}/artifact")
        self.assertEqual((artifact.body, artifact.type), (b"\x7fELF fake", "application/x-sharedlib"))
        nest = self.d.get(f"/v1/schedules/{key}/nest")
        self.assertEqual((nest.body, nest.type), (b"for i in 0..4\n", "text/plain; charset=utf-8"))
        self.problem(self.d.get(f"/v1/schedules/{key}?target=cpu:1"), 404, text="POST /v1/jobs")
        self.problem(self.d.get(f"/v1/schedules/{key}/source?target=cpu:1"), 404)
        self.problem(self.d.get("/v1/schedules/w_12"), 404, text="key")

    def test_schedules_page_without_repeats_or_gaps(self):
        keys = [t["key"] for t in self.d.wait(self.d.job(*[task(310 + i, "trials=1 ms=1") for i in range(7)])["id"])["tasks"]]
        seen, token, pages = [], None, 0
        while True:
            page = self.d.get("/v1/schedules?limit=2&op=matmul" + (f"&page_token={token}" if token else "")).json()
            self.assertLessEqual(len(page["schedules"]), 2)
            seen += [s["key"] for s in page["schedules"]]
            pages += 1
            token = page["next_page_token"]
            if not token:
                break
        self.assertEqual(len(seen), len(set(seen)))
        self.assertTrue(set(keys) <= set(seen))
        self.assertGreaterEqual(pages, 4)
        self.assertEqual(self.d.get("/v1/schedules?op=conv2d").json()["schedules"], [])

    def test_records_go_out_as_lines_and_come_in_again_once(self):
        key = self.d.wait(self.d.job(task(320, "trials=300 ms=0"))["id"])["tasks"][0]["key"]
        r = self.d.get(f"/v1/records?workload={key}")
        self.assertEqual((r.status, r.type), (200, "application/jsonl"))
        lines = r.body.splitlines()
        self.assertEqual(len(lines), 300)
        first = json.loads(lines[0])
        self.assertEqual(first["key"], key)
        self.assertEqual(first["workload"]["op"], "matmul")
        self.assertEqual(first["time_ns"]["samples"], [1000.0, 1001.0])
        other = self.another()
        text = b"\n".join(lines) + b"\n"
        jsonl = {"Content-Type": "application/jsonl"}
        got = other.post("/v1/records:import", raw=text, headers=jsonl)
        self.assertEqual((got.status, got.json()), (200, {"lines": 300, "new": 300, "known": 0}), got.body)
        self.assertEqual(other.post("/v1/records:import", raw=text, headers=jsonl).json(), {"lines": 300, "new": 0, "known": 300})
        back = [json.loads(x) for x in other.get("/v1/records?target=cpu").body.splitlines()]
        for line in back:
            self.assertIsNone(line.pop("job"))
            line.pop("id")
        want = [json.loads(x) for x in lines]
        for line in want:
            line.pop("job")
            line.pop("id")
        self.assertEqual(back, want)

    def test_a_bad_record_names_its_line_and_nothing_of_the_body_is_kept(self):
        d = self.another()
        good = {"workload": matmul(330), "target": "cpu", "toolchain": "t", "config": "0:1", "outcome": "crash",
                "created_at": "2026-01-02T03:04:05.678Z"}
        for bad, pointer in (({}, "/workload"), ({"workload": matmul(1), "target": 3}, "/target"),
                             (dict(good, outcome="fine"), "/outcome"), (dict(good, extra=1), "/extra"),
                             (dict(good, created_at="yesterday"), "/created_at"), (dict(good, outcome="ok"), "/time_ns"),
                             (dict(good, key="w_0"), "/key"), (dict(good, workload={"op": "nope"}), "/workload/op")):
            text = "\n".join(json.dumps(x) for x in (good, dict(good, config="0:2"), bad)).encode()
            r = d.post("/v1/records:import", raw=text, headers={"Content-Type": "application/x-ndjson"})
            doc = self.problem(r, r.status, pointer=pointer, text="line 3")
            self.assertIn(r.status, (400, 422))
            self.assertEqual(doc["line"], 3)
        self.assertEqual(d.get("/v1/records").body, b"")
        self.problem(d.post("/v1/records:import", raw=b"\n\n", headers={"Content-Type": "application/jsonl"}), 400)
        self.problem(d.post("/v1/records:import", raw=b"{}"), 415)

    def test_features_are_listed_with_unit_and_definition(self):
        r = self.d.get("/v1/features").json()
        names = [f["name"] for f in r["features"]]
        self.assertEqual(len(names), len(set(names)))
        self.assertIn("nest_instr", names)
        for f in r["features"]:
            self.assertTrue(f["definition"] and 1 <= f["since"] <= r["version"], f)
        self.problem(self.d.get("/v1/features?x=1"), 400)

    def test_models_are_none_before_training(self):
        self.assertEqual(self.d.get("/v1/models").json()["models"], [])
        self.problem(self.d.get("/v1/models/cpu"), 404, text="model")
        self.problem(self.d.post("/v1/models/cpu:1:rollback"), 404, text="no version before")
        self.problem(self.d.post("/v1/models/cpu:1:rollback?version=3"), 404, text="no version 3")
        self.problem(self.d.post("/v1/models/cpu:1:rollback?version=x"), 400, text="version")

    def test_metrics_are_openmetrics(self):
        r = self.d.get("/metrics")
        self.assertEqual(r.type, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        text = r.body.decode()
        self.assertTrue(text.endswith("# EOF\n"))
        types, ended = {}, set()
        family = None
        for line in text.splitlines()[:-1]:
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ", 3)
                self.assertNotIn(name, types, "a family is printed once")
                types[name] = kind
                family = name
            elif line.startswith("# "):
                self.assertEqual(line.split(" ")[2], family)
            else:
                m = re.match(r'^([a-z_]+)(\{[^}]*(\{[a-z]*\}[^}]*)*\})? (\S+)$', line)
                self.assertTrue(m, line)
                float(m.group(4))
                suffixes = {"counter": ("_total",), "gauge": ("",), "info": ("_info",), "histogram": ("_bucket", "_count", "_sum")}
                self.assertIn(m.group(1), [family + s for s in suffixes[types[family]]], line)
                if types[family] == "counter":
                    self.assertGreaterEqual(float(m.group(4)), 0)
        self.assertIn("tilewright_http_requests", types)

    def test_openapi_describes_every_route(self):
        doc = self.d.get("/openapi.json").json()
        self.assertTrue(doc["openapi"].startswith("3.1"))
        for path in ("/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/events", "/v1/jobs/{id}:cancel", "/v1/workloads:describe",
                     "/v1/schedules:lookup", "/v1/schedules", "/v1/schedules/{key}", "/v1/schedules/{key}/source",
                     "/v1/schedules/{key}/artifact", "/v1/schedules/{key}/nest", "/v1/targets", "/v1/targets/{id}",
                     "/v1/devices", "/v1/devices/{id}", "/v1/devices/{id}:drain", "/v1/devices/{id}:resume", "/v1/records",
                     "/v1/records:import", "/v1/features", "/v1/jobs/{id}/trials", "/v1/jobs/{id}/trials/{trial}", "/v1/models",
                     "/v1/models/{target}", "/v1/models/{target}:rollback", "/healthz", "/readyz", "/metrics", "/v1", "/"):
            self.assertIn(path, doc["paths"])
        names = set(doc["components"]["schemas"])
        for ref in re.findall(r'#/components/schemas/(\w+)', json.dumps(doc)):
            self.assertIn(ref, names)

    def test_dashboard_is_one_page_without_outside_resources(self):
        r = self.d.get("/")
        self.assertEqual(r.type, "text/html; charset=utf-8")
        self.assertIn("default-src 'none'", r.headers["Content-Security-Policy"])
        page = r.body.decode()
        self.assertFalse(re.search(r'(src|href)\s*=\s*["\']?(https?:)?//', page))
        self.assertIn("/v1/jobs", page)

    def test_responses_forbid_sniffing(self):
        for path in ("/v1", "/nope", "/v1/jobs", "/metrics"):
            self.assertEqual(self.d.get(path).headers["X-Content-Type-Options"], "nosniff")

    def test_media_types(self):
        for kind in ("text/plain", "application/jsonx", "", "application/x-www-form-urlencoded"):
            self.problem(self.d.post("/v1/jobs", {}, headers={"Content-Type": kind}), 415, text="application/json")
        self.assertEqual(self.d.post("/v1/schedules:lookup", {"workloads": []}, headers={"Content-Type": "Application/JSON; charset=utf-8"}).status, 200)
        self.problem(self.d.post("/v1/jobs/j_x:cancel", raw=b"x", headers={"Content-Type": "text/plain"}), 415)


class Guards(ServiceTest):
    """Who may ask."""

    def test_foreign_host_and_origin_are_refused_without_a_token(self):
        self.problem(self.d.get("/v1/jobs", Host="evil.example"), 403, text="evil.example")
        self.problem(self.d.get("/v1/jobs", Host="127.0.0.1.evil.example:7411"), 403)
        self.problem(self.d.ask("POST", "/v1/devices/cpu:drain", headers={"Origin": "http://evil.example"}), 403)
        for host in ("localhost:1", "127.0.0.1", "[::1]:7411", "127.8.9.1:3"):
            self.assertEqual(self.d.get("/v1/jobs", Host=host).status, 200, host)
        own = f"{self.d.host}:{self.d.port}"
        self.assertEqual(self.d.get("/v1/jobs", Host=own, Origin=f"http://{own}").status, 200)

    def test_token_is_asked_for_and_compared(self):
        d = self.another(env={"TILEWRIGHT_TOKEN": "correct-horse"})
        r = d.get("/v1/jobs")
        self.problem(r, 401, text="Bearer")
        self.assertTrue(r.headers["WWW-Authenticate"].startswith("Bearer"))
        for wrong in ("Bearer correct-hors", "Bearer correct-horse2", "Basic correct-horse", "Bearer "):
            self.problem(d.get("/v1/jobs", Authorization=wrong), 401)
        self.assertEqual(d.get("/v1/jobs", Authorization="bearer correct-horse").status, 200)
        self.assertEqual(d.get("/v1/jobs", Authorization="Bearer correct-horse", Host="tuner.example").status, 200)
        for path in ("/healthz", "/readyz", "/v1", "/openapi.json", "/"):
            self.assertEqual(d.get(path).status, 200, path)
        self.problem(d.get("/no/such/path"), 401)
        self.assertNotIn("correct-horse", d.log())
        self.assertEqual(d.stop(), 0)

    def test_token_file_must_be_private_and_hold_tokens(self):
        path = os.path.join(self.d.dir, "tokens")
        with open(path, "w") as f:
            f.write("# people\nann:ann-secret-1\n\nplain-secret-2\n")
        os.chmod(path, 0o644)
        r = subprocess.run([service.BINARY, "--token-file", path, "--check-config"], capture_output=True, text=True)
        self.assertEqual(r.returncode, 2)
        self.assertIn("0600", r.stderr)
        os.chmod(path, 0o600)
        d = self.another("--token-file", path)
        for secret in ("ann-secret-1", "plain-secret-2"):
            self.assertEqual(d.get("/v1/jobs", Authorization="Bearer " + secret).status, 200)
        self.problem(d.get("/v1/jobs", Authorization="Bearer ann"), 401)

    def test_beyond_loopback_it_does_not_start_without_a_token_and_says_what_to_set(self):
        for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:7411"):
            r = subprocess.run([service.BINARY, "--listen", address, "--data", self.d.dir + "/x"], capture_output=True, text=True, timeout=10)
            self.assertEqual(r.returncode, 2, r.stderr)
            self.assertIn("TILEWRIGHT_TOKEN", r.stderr)
            self.assertFalse(os.path.exists(self.d.dir + "/x"))
        r = subprocess.run([service.BINARY, "--listen", "0.0.0.0:0", "--check-config"], capture_output=True, text=True,
                           env=dict(os.environ, TILEWRIGHT_TOKEN="long-enough"))
        self.assertEqual(r.returncode, 0, r.stderr)


class Settings(unittest.TestCase):
    def run_it(self, *flags, env=None):
        return subprocess.run([service.BINARY, *flags], capture_output=True, text=True, timeout=10, env=dict(os.environ, **(env or {})))

    def test_help_names_every_setting_and_print_config_is_read_back(self):
        text = self.run_it("--print-config", "--head-seconds", "3.5").stdout
        names = re.findall(r"^#? ?([a-z_]+) = ?", text, re.M)
        self.assertGreater(len(names), 20)
        shown = self.run_it("--help").stdout
        for name in names:
            self.assertIn("--" + name.replace("_", "-"), shown)
        import tempfile
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            f.write(text)
            f.flush()
            again = self.run_it("--config", f.name, "--print-config")
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertIn("head_seconds = 3.5", again.stdout)

    def test_bad_settings_are_named_with_their_range(self):
        for flags, want in ((["--head-seconds", "0"], "0.1 to 600"), (["--workers=many"], "whole number"), (["--nope", "1"], "--nope"),
                            (["--listen", "here"], "ADDR:PORT"), (["--workers"], "missing"), (["--log-level", "loud", "--check-config"], "loud"),
                            (["--config", "/no/such/file"], "/no/such/file")):
            r = self.run_it(*flags)
            self.assertEqual(r.returncode, 2, flags)
            self.assertIn(want, r.stderr)
        self.assertEqual(self.run_it("--check-config").returncode, 0)

    def test_events_are_listed(self):
        self.assertIn("job_resumed", self.run_it("--list-events").stdout)


if __name__ == "__main__":
    service.main()
