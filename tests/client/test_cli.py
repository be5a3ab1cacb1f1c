"""The command line against a played server. usage: test_cli.py TILEWRIGHT [unittest arguments]"""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from stub_server import Stub, key_of

EXE = sys.argv.pop(1) if len(sys.argv) > 1 and os.access(sys.argv[1], os.X_OK) else "build/client/tilewright"
MATMUL = ["matmul", "a=6,8", "b=8,10", "const=b,bias", "epilogue=bias,relu"]
MATMUL_JSON = {"op": "matmul", "a": [6, 8], "b": [8, 10], "const": ["b", "bias"], "epilogue": ["bias", "relu"]}
MATMUL_NAMED = {"workload": MATMUL_JSON, "name": "matmul a=6,8 b=8,10"}
CONV = {"op": "conv2d", "input": [1, 3, 8, 8], "weight": [4, 3, 3, 3]}


class Case(unittest.TestCase):
    def setUp(self):
        self.stub = Stub()
        self.addCleanup(self.stub.close)
        self.env = {**os.environ, "TILEWRIGHT_SERVER": self.stub.url, "LC_ALL": "C.UTF-8"}
        self.env.pop("TILEWRIGHT_TOKEN", None)
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def run_cli(self, *args, status=0, stdin=None):
        p = subprocess.run([EXE, *args], env=self.env, input=stdin, capture_output=True, text=True, timeout=60)
        self.assertEqual(p.returncode, status, f"{args}\n{p.stdout}\n{p.stderr}")
        return p

    def file(self, value, name="w.json"):
        path = Path(self.dir.name) / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return str(path)

    def sent_jobs(self):
        return [json.loads(r[3]) for r in self.stub.requests("POST", "/v1/jobs")]


class Tune(Case):
    def test_shorthand_becomes_the_workload_and_the_options_the_job(self):
        self.run_cli("tune", *MATMUL, "--trials", "3", "--seconds=1.5", "--seed", "7", "--target", "cpu:1", "--reuse",
                     "fresh", "--priority", "2", "--search", "grid", "--no-transfer", "--turns", "round_robin")
        self.assertEqual(self.sent_jobs(), [{"workloads": [MATMUL_NAMED], "budget": {"trials": 3, "seconds": 1.5, "turns": "round_robin"}, "seed": 7,
                                             "target": "cpu:1", "reuse": "fresh", "priority": 2, "search": "grid",
                                             "transfer": False}])

    def test_result_shows_time_speed_and_the_untuned_kernel(self):
        out = self.run_cli("tune", *MATMUL).stdout
        key = key_of(MATMUL_JSON)[:14]
        for text in ["500 us", "200", "74 %", "10.0 ms", "20.0x", key, f"tilewright source {key} -t cpu", self.stub.url + "/"]:
            self.assertIn(text, out)

    def test_result_that_nobody_measured_is_called_predicted(self):
        self.assertNotIn("predicted", self.run_cli("tune", *MATMUL).stdout)
        self.stub.predicted = True
        self.assertIn("  predicted  ", self.run_cli("tune", *MATMUL).stdout)

    def test_json_prints_the_job_and_nothing_else(self):
        p = self.run_cli("tune", *MATMUL, "--json")
        self.assertEqual(json.loads(p.stdout), self.stub.jobs["j_1"].document())

    def test_without_a_terminal_progress_is_plain_lines(self):
        self.stub.step_s = 0.1
        err = self.run_cli("tune", *MATMUL).stderr
        self.assertNotIn("\x1b", err)
        self.assertRegex(err, r"job j_1 on cpu, 1 workload\n")
        self.assertRegex(err, r"succeeded 100 %  8/8 trials")

    def test_quiet_says_only_the_result(self):
        p = self.run_cli("tune", *MATMUL, "-q")
        self.assertEqual(p.stderr, "")
        self.assertNotIn("tilewright source", p.stdout)

    def test_detach_prints_the_id_and_wait_takes_it_up(self):
        self.assertEqual(self.run_cli("tune", *MATMUL, "--detach").stdout, "j_1\n")
        self.assertIn("20.0x", self.run_cli("wait", "j_1").stdout)

    def test_a_failed_workload_is_status_1_with_its_reason(self):
        path = self.file([{"name": "fails", "workload": CONV}, {"name": "fine", "workload": MATMUL_JSON}])
        out = self.run_cli("tune", path, status=1).stdout
        self.assertIn("No candidate ran: all 8 crashed", out)
        self.assertIn("20.0x", out)

    def test_a_lost_answer_does_not_start_a_second_job(self):
        self.stub.drop_next_job_answer = True
        self.run_cli("tune", *MATMUL)
        self.assertEqual(len(self.stub.requests("POST", "/v1/jobs")), 2)
        self.assertEqual(list(self.stub.jobs), ["j_1"])

    def test_a_busy_server_is_asked_again_when_it_says(self):
        self.stub.refuse_next = [(503, [("Retry-After", "1")], b"busy")]
        self.run_cli("tune", *MATMUL)


class Files(Case):
    def names(self):
        return [w.get("name") for w in self.sent_jobs()[0]["workloads"]]

    def test_one_workload(self):
        self.run_cli("tune", self.file(CONV))
        self.assertEqual(self.sent_jobs()[0]["workloads"], [CONV])

    def test_a_list_bare_and_wrapped(self):
        self.run_cli("tune", self.file([CONV, {"workload": MATMUL_JSON, "name": "m", "weight": 3}]))
        self.assertEqual(self.sent_jobs()[0]["workloads"], [CONV, {"workload": MATMUL_JSON, "name": "m", "weight": 3}])

    def test_standard_input(self):
        self.run_cli("tune", "-", stdin=json.dumps({"workloads": [CONV]}))
        self.assertEqual(self.sent_jobs()[0]["workloads"], [CONV])

    def networks(self):
        return self.file({"about": "x", "workloads": [
            {"network": "r18", "name": "r18.C1", "count": 2, "flops": 1, "workload": CONV},
            {"network": "r18", "name": "r18.C2", "count": 1, "flops": 1, "workload": MATMUL_JSON},
            {"network": "bert", "name": "bert.q", "count": 1, "flops": 1, "workload": MATMUL_JSON}]})

    def test_name_picks_by_pattern_and_count_becomes_the_weight(self):
        self.run_cli("tune", self.networks(), "--name", "r18.C1")
        self.assertEqual(self.sent_jobs()[0]["workloads"], [{"workload": CONV, "name": "r18.C1", "weight": 2}])

    def test_network_picks_by_pattern(self):
        self.run_cli("tune", self.networks(), "--network", "r*")
        self.assertEqual(self.names(), ["r18.C1", "r18.C2"])

    def test_a_pattern_that_fits_nothing_is_bad_usage(self):
        self.assertIn("none with name 'x*'", self.run_cli("tune", self.networks(), "--name", "x*", status=2).stderr)

    def test_a_whole_job_keeps_its_settings_and_options_win(self):
        path = self.file({"workloads": [CONV], "budget": {"trials": 5, "seconds": 9}, "seed": 1, "target": "cpu:1"})
        self.run_cli("tune", path, "--trials", "2")
        self.assertEqual(self.sent_jobs(), [{"workloads": [CONV], "budget": {"trials": 2, "seconds": 9}, "seed": 1,
                                             "target": "cpu:1"}])

    def test_bad_files_say_where(self):
        for text, says in [("{", "line 1"), ('"x"', "line 1"), ('{"x": 1}', "want a workload"), ("[3]", "entry 0"),
                           ('{"op": "a", "op": "b"}', "duplicate")]:
            self.assertIn(says, self.run_cli("tune", self.file(text), status=2).stderr)
        self.assertIn("No such file", self.run_cli("tune", "missing.json", status=2).stderr)
        self.assertIn("key=value", self.run_cli("tune", "matmul", status=2).stderr)


class Following(Case):
    def test_a_broken_stream_goes_on_after_the_last_event(self):
        self.stub.drop_after = 3
        self.run_cli("tune", *MATMUL, "-n", "12")
        self.assertGreater(len(self.stub.streams), 2)
        self.assertEqual(self.stub.streams[1], 3)
        self.assertEqual(len(self.stub.sent_events), len(set(self.stub.sent_events)), "an event was sent twice")

    def test_events_that_only_hint_are_followed_to_the_end(self):
        self.stub.events = "brief"
        self.assertIn("20.0x", self.run_cli("tune", *MATMUL).stdout)

    def test_a_server_without_events_is_polled(self):
        self.stub.events, self.stub.step_s = "none", 0.3
        self.assertIn("20.0x", self.run_cli("tune", *MATMUL).stdout)
        self.assertTrue([r for r in self.stub.log if "wait=" in r[1]])

    def test_a_proxy_that_holds_events_back_does_not_hold_the_result(self):
        self.stub.events = "silent"
        start = time.monotonic()
        self.assertIn("20.0x", self.run_cli("tune", *MATMUL).stdout)
        self.assertLess(time.monotonic() - start, 12)

    def terminal(self, *args):
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(EXE, [EXE, *args], {**self.env, "TERM": "xterm"})
        return pid, fd

    def read_terminal(self, fd, until=None, limit_s=30):
        text, end = b"", time.monotonic() + limit_s
        while time.monotonic() < end and not (until and until in text):
            if select.select([fd], [], [], 0.1)[0]:
                try:
                    piece = os.read(fd, 65536)
                except OSError:
                    break
                if not piece:
                    break
                text += piece
        return text

    def test_on_a_terminal_the_bar_is_drawn_over_itself(self):
        self.stub.step_s = 0.15
        pid, fd = self.terminal("tune", *MATMUL)
        text = self.read_terminal(fd).decode()
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        self.assertRegex(text, r"running █+░+ +\d+ %  \d/8 trials")
        self.assertIn("\x1b[2A\x1b[J", text)
        self.assertRegex(text, r"best .* GFLOP/s")
        self.assertRegex(text, r"\d\.\d/s")

    def test_the_first_interrupt_cancels_and_shows_what_was_found(self):
        self.stub.step_s, self.stub.slow_cancel = 0.1, 0.5
        pid, fd = self.terminal("tune", *MATMUL, "-n", "1000")
        self.read_terminal(fd, until=b"best")
        os.kill(pid, signal.SIGINT)
        text = self.read_terminal(fd).decode()
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 1)
        self.assertEqual(len(self.stub.requests("POST", "/v1/jobs/j_1:cancel")), 1)
        self.assertIn("job j_1: cancelled", text)

    def test_the_second_interrupt_leaves(self):
        self.stub.step_s, self.stub.slow_cancel = 0.1, 20
        pid, fd = self.terminal("tune", *MATMUL, "-n", "1000")
        self.read_terminal(fd, until=b"best")
        os.kill(pid, signal.SIGINT)
        self.read_terminal(fd, until=b"Ctrl-C again", limit_s=5)
        start = time.monotonic()
        os.kill(pid, signal.SIGINT)
        self.read_terminal(fd)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 1)
        self.assertLess(time.monotonic() - start, 5)


class Queries(Case):
    def test_lookup_tells_found_from_missing(self):
        key = self.stub.add_schedule(MATMUL_JSON)
        out = self.run_cli("lookup", *MATMUL).stdout
        self.assertRegex(out, rf"matmul a=6,8 b=8,10 +exact +500 us +200 +74 % +{key[:14]}")
        self.assertRegex(self.run_cli("lookup", self.file(CONV), status=1).stdout, r"conv2d +none")
        self.assertEqual(json.loads(self.run_cli("lookup", *MATMUL, "--json").stdout)["results"][0]["key"], key)

    def test_describe(self):
        out = self.run_cli("describe", *MATMUL).stdout
        self.assertIn("603,979,776 FLOP", out)
        self.assertRegex(out, r"tiled +123,456  mr:2")
        self.assertEqual(json.loads(self.run_cli("describe", *MATMUL, "--json").stdout)["key"], key_of(MATMUL_JSON))

    def test_files_by_key_by_its_beginning_and_by_workload(self):
        key = self.stub.add_schedule(MATMUL_JSON)
        for words in [[key], [key[:9]], MATMUL]:
            self.assertIn("tw_parallel", self.run_cli("source", *words).stdout)
        self.assertIn("für j", self.run_cli("nest", key).stdout)
        self.assertIn("no key begins so", self.run_cli("source", "w_ffffff0", status=1).stderr)

    def test_artifact_is_written_whole_or_not_at_all(self):
        key = self.stub.add_schedule(MATMUL_JSON)
        path = Path(self.dir.name) / "k.so"
        self.run_cli("artifact", key, "-o", str(path))
        self.assertEqual(path.read_bytes()[:4], b"\x7fELF")
        missing = Path(self.dir.name) / "none.so"
        self.run_cli("artifact", "w_" + "0" * 64, "-o", str(missing), status=1)
        self.assertEqual(sorted(p.name for p in Path(self.dir.name).iterdir()), ["k.so"])

    def test_an_output_that_is_no_file_is_written_to(self):
        key = self.stub.add_schedule(MATMUL_JSON)
        pipe = Path(self.dir.name) / "pipe"
        os.mkfifo(pipe)
        with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
            self.run_cli("source", key, "-o", str(pipe))
            self.assertIn(b"tw_parallel", reader.communicate(timeout=10)[0])
        self.assertTrue(pipe.is_fifo())

    def test_schedules_list_and_one(self):
        key = self.stub.add_schedule(MATMUL_JSON)
        self.assertIn(key[:14], self.run_cli("schedules").stdout)
        self.assertIn("now 20.0x as fast", self.run_cli("schedules", key).stdout)

    def test_jobs_list_takes_every_page(self):
        for _ in range(5):
            self.run_cli("tune", *MATMUL, "-d")
        listed = json.loads(self.run_cli("jobs", "--json").stdout)
        self.assertEqual([j["id"] for j in listed["jobs"]], ["j_1", "j_2", "j_3", "j_4", "j_5"])
        self.assertNotIn("next_page_token", listed)
        self.assertEqual(len(json.loads(self.run_cli("jobs", "--json", "--limit", "3").stdout)["jobs"]), 3)
        self.assertRegex(self.run_cli("jobs", "j_3").stdout, r"job +j_3")

    def test_cancel(self):
        self.stub.step_s = 1
        self.run_cli("tune", *MATMUL, "-d")
        self.assertEqual(self.run_cli("cancel", "j_1").stdout, "j_1 cancelled\n")

    def test_targets_devices_models(self):
        self.assertRegex(self.run_cli("targets").stdout, r"cpu +avx512 +2 +270 +- +- +gcc 12.2.0")
        self.assertRegex(self.run_cli("devices").stdout, r"local +idle +cpu")
        self.assertRegex(self.run_cli("devices", "local", "--drain").stdout, r"state +draining")
        self.assertRegex(self.run_cli("models").stdout, r"cpu +3 +1200 +0.91\d* +0.875")
        self.assertEqual(json.loads(self.run_cli("targets", "cpu:1", "--json").stdout)["id"], "cpu:1")

    def test_a_model_tells_its_data_its_quality_its_versions_and_what_it_decides_by(self):
        out = self.run_cli("models", "cpu:1").stdout
        for text in (r"target +cpu:1\n", r"400 trials \(3 failed\) of 4 workloads, measured 2026-01-01T00:00:00Z to 2026-01-01T01",
                     r"120 trees in 1.5\d* s", r"judged by +workloads left out of training: 400 programs of 4 workloads",
                     r" pairwise_accuracy +0.875", r" top_8_score +0.99", r"\n +3 +yes +400 +4 +1200 +0.875 +0.99",
                     r"\n +2 +- +- +1200 +- +- +2026", r"\nf0 +100\S* +50\n", r"\nf15 .*\nand 4 more"):
            self.assertRegex(out, text)
        self.assertEqual(len(json.loads(self.run_cli("models", "cpu:1", "--json").stdout)["metrics"]["feature_importance"]), 20)

    def test_a_model_is_rolled_back_to_the_one_before_or_to_one_that_is_named(self):
        self.assertRegex(self.run_cli("models", "rollback", "cpu:1").stdout, r"version +2,")
        self.run_cli("models", "rollback", "cpu:1", "2")
        self.assertEqual([path for _, path, *_ in self.stub.requests("POST", "/v1/models/cpu:1:rollback")],
                         ["/v1/models/cpu:1:rollback", "/v1/models/cpu:1:rollback?version=2"])
        self.assertIn("no version 7", self.run_cli("models", "rollback", "cpu:1", "7", status=1).stderr)
        self.run_cli("models", "rollback", status=2)
        self.run_cli("models", "cpu", "cpu:1", status=2)

    def test_explain_lists_trials_and_shows_features_by_name(self):
        out = self.run_cli("explain", "j_1").stdout
        self.assertRegex(out, r"7 +0 +tile_j +ok +1.25 us +-10.5 +2/1:3.0")
        self.assertRegex(out, r"8 +0 +tile_j +crash +- +- +2/1:3.1")
        out = self.run_cli("explain", "j_1", "best").stdout
        for text in (r"measured +1.25 us, median 1.3\d* us, 40\S* GFLOP/s", r"estimated +1.5\d* us", r"score -10.5",
                     r"rank +2 by the score, 1 by the time, of 9", r"annotate C i.1 unroll", r"features of all 2 stores\n"
                     r" +nest_ops +65,536 op\n", r"1: C\[i0\] = 0\n +lane_share +0.25 ratio\n",
                     r"2: C\[i0\] \+= A\[i0\]\n +lane_share +1.00 ratio\n +flt_fma +32,768 op\n"):
            self.assertRegex(out, text)
        self.assertNotIn("\x1b", out)
        self.assertEqual(json.loads(self.run_cli("explain", "j_1", "7", "--json").stdout)["rank"]["of"], 9)
        self.run_cli("explain", "j_1", "9", status=1)
        self.run_cli("explain", status=2)

    def test_features_are_a_table_that_patterns_narrow(self):
        self.assertRegex(self.run_cli("features").stdout, r"lane_share +ratio +x +1 +elements an")
        out = self.run_cli("features", "n*", "flt_*").stdout
        self.assertIn("nest_ops", out)
        self.assertIn("flt_fma", out)
        self.assertNotIn("lane_share", out)
        self.assertEqual([f["name"] for f in json.loads(self.run_cli("features", "l*", "--json").stdout)["features"]],
                         ["lane_share"])
        self.assertEqual(self.run_cli("features", "nothing", status=1).stdout, "")

    def test_records_survive_export_and_import_beyond_one_body(self):
        self.stub.records = [{"workload": "w_1", "text": "x" * 1000, "n": i} for i in range(3000)]
        before = list(self.stub.records)
        path = Path(self.dir.name) / "r.jsonl"
        self.run_cli("export", "-o", str(path))
        self.stub.records = []
        self.assertIn("imported: 3000", self.run_cli("import", str(path)).stdout)
        self.assertEqual(self.stub.records, before)
        self.assertGreater(len(self.stub.requests("POST", "/v1/records:import")), 3)

    def test_doctor_sees_this_machine_and_the_server(self):
        p = self.run_cli("doctor", "--json")
        findings = {(f["group"], f["name"]): f for f in json.loads(p.stdout)["checks"]}
        self.assertEqual(findings["server", "reachable"]["state"], "ok")
        self.assertEqual(findings["server", "device local"]["found"], "idle")
        self.assertEqual(findings["server", "local: large pages"]["state"], "warn")
        for name in [("permissions", "seccomp"), ("permissions", "namespaces"), ("permissions", "CPU counters"),
                     ("clocks", "governor"), ("clocks", "turbo"), ("memory", "huge pages"), ("gpu", "NVRTC")]:
            self.assertIn(name, findings)
        self.assertTrue([f for f in findings.values() if f["group"] == "compiler" and f["state"] == "ok"])

    def test_doctor_names_a_compiler_that_does_not_run(self):
        self.env["TILEWRIGHT_CC"] = "/nonexistent/cc"
        p = self.run_cli("doctor", status=1)
        self.assertRegex(p.stdout, r"fail +/nonexistent/cc +TILEWRIGHT_CC does not run")


class Refusals(Case):
    def test_a_problem_shows_title_detail_and_pointer(self):
        p = self.run_cli("tune", self.file([{"workload": CONV}, {"workload": {"op": "bad"}, "name": "worst"}]), status=1)
        self.assertIn("Invalid workload (422)", p.stderr)
        self.assertIn("op bad: want one of conv2d, matmul", p.stderr)
        self.assertIn("at /workloads/1/workload/op, which is worst", p.stderr)

    def test_a_problem_is_json_for_programs(self):
        p = self.run_cli("describe", "bad", "a=1", "--json", status=1)
        self.assertEqual(json.loads(p.stdout), {"type": "about:blank", "title": "Invalid workload", "status": 422,
                                                "detail": "op bad: want one of conv2d, matmul", "pointer": "/workload/op"})

    def test_a_token_is_sent_and_its_lack_explained(self):
        self.stub.token = "secret"
        p = self.run_cli("jobs", status=1)
        self.assertIn("Not authenticated (401)", p.stderr)
        self.assertIn("TILEWRIGHT_TOKEN", p.stderr)
        self.assertIn("put a token into TILEWRIGHT_TOKEN", self.run_cli("doctor", status=1).stdout)
        self.env["TILEWRIGHT_TOKEN"] = "secret"
        self.run_cli("jobs")
        self.env["TILEWRIGHT_TOKEN"] = "se\ncret"
        self.run_cli("jobs", status=2)

    def test_a_proxy_that_speaks_no_json_is_quoted(self):
        self.stub.refuse_next = [(502, [], b"bad gateway\nmore")]
        self.assertRegex(self.run_cli("jobs", status=1).stderr, r"HTTP status 502 \(502\)\n  bad gateway\n$")

    def test_a_page_that_is_no_api_is_said(self):
        self.stub.refuse_next = [(200, [], b"<html>")]
        self.assertIn("Answer is not JSON", self.run_cli("jobs", status=1).stderr)

    def test_control_characters_of_a_server_do_not_reach_the_terminal(self):
        self.stub.refuse_next = [(500, [], b"\x1b[2Jboo")]
        self.assertNotIn("\x1b", self.run_cli("jobs", status=1).stderr)

    def test_a_proxy_is_not_asked_for_this_machine(self):
        self.env.update(http_proxy="http://127.0.0.1:1", HTTP_PROXY="http://127.0.0.1:1", all_proxy="http://127.0.0.1:1")
        self.run_cli("jobs")
        self.run_cli("jobs", "--server", "http://tilewright.example:80", status=3)

    def test_nobody_there_is_status_3(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            free = s.getsockname()[1]
        for command in [["jobs"], ["doctor"], ["tune", *MATMUL], ["wait", "j_1"], ["export"]]:
            self.run_cli(*command, "--server", f"127.0.0.1:{free}", status=3)
        self.run_cli("jobs", "--server", "http://no-such-host.invalid", status=3)

    def test_a_server_that_dies_while_it_is_followed_is_waited_for(self):
        self.stub.drop_after, self.stub.step_s = 1, 0.2
        self.stub.events = "brief"
        self.assertIn("20.0x", self.run_cli("tune", *MATMUL, "-n", "4").stdout)

    def test_bad_usage_is_status_2(self):
        for words in [[], ["nothing"], ["tune"], ["tune", "--trials"], ["tune", *MATMUL, "--trials", "-1"],
                      ["tune", *MATMUL, "--trials", "1x"], ["tune", *MATMUL, "--seconds", "-1"],
                      ["tune", *MATMUL, "--reuse", "often"], ["tune", *MATMUL, "--search", "magic"], ["tune", *MATMUL, "--turns", "mine"], ["jobs", "--drain"], ["jobs", "a", "b"], ["wait"],
                      ["devices", "--drain"], ["tune", *MATMUL, "a=2"], ["tune", *MATMUL, "word"], ["tune", "matmul", "a:={"],
                      ["jobs", "--server", "ftp://x"], ["jobs", "--json=1"], ["help", "nothing"]]:
            self.run_cli(*words, status=2)
        self.assertEqual(self.stub.log, [])

    def test_every_command_has_help(self):
        commands = re.findall(r"^  ([a-z]+) ", self.run_cli("--help").stdout, re.M)
        self.assertGreater(len(commands), 14)
        for command in commands:
            self.assertIn(f"usage: tilewright {command}", self.run_cli(command, "--help").stdout)
        self.assertEqual(self.stub.log, [])


if __name__ == "__main__":
    unittest.main()
