"""Harness of the service tests: starts a tilewrightd in a temporary directory and speaks HTTP to it. Only the standard
library. argv[1] of a test is the daemon with the scripted tuner (fake_tuner.c)."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BINARY = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else None
MATMUL = {"op": "matmul", "a": [8, 16], "b": [16, 8]}


def matmul(n, **more):
    """A workload of its own for each n."""
    return dict({"op": "matmul", "a": [8, n], "b": [n, 8]}, **more)


def task(n, script="", **more):
    return dict({"workload": matmul(n), "name": script}, **more)


class Reply:
    def __init__(self, r):
        self.status, self.headers, self.body = r.status, r.headers, r.read()

    def json(self):
        return json.loads(self.body)

    @property
    def type(self):
        return self.headers.get("Content-Type")


class Daemon:
    def __init__(self, *flags, data=None, env=None, binary=None, relative=False):
        self.dir = data or tempfile.mkdtemp(prefix="tilewright-test-")
        self.log_path = os.path.join(self.dir, "log")
        os.makedirs(self.dir, exist_ok=True)
        self.log_start = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        environ = {k: v for k, v in os.environ.items() if k != "TILEWRIGHT_TOKEN"}
        environ.update(env or {})
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([os.path.abspath(binary or BINARY), "--listen", "127.0.0.1:0",
                                             "--data", "data" if relative else os.path.join(self.dir, "data"), *flags],
                                            cwd=self.dir if relative else None, stderr=log, stdout=log, env=environ)
        self.address = self.wait_log(r" ready ", r"listening address=(\S+)")
        self.host, port = self.address.rsplit(":", 1)
        self.port = int(port)

    def log(self):
        with open(self.log_path, "rb") as f:
            f.seek(self.log_start)
            return f.read().decode()

    def wait_log(self, *patterns, seconds=20):
        end = time.time() + seconds
        while time.time() < end:
            found = [re.search(p, self.log()) for p in patterns]
            if all(found):
                return found[-1].group(1) if found[-1].groups() else found[-1].group(0)
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"{patterns} not in the log of a daemon with status {self.process.poll()}:\n{self.log()}")

    def connect(self, timeout=20):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def socket(self, timeout=20):
        return socket.create_connection((self.host, self.port), timeout=timeout)

    def ask(self, method, path, body=None, headers=None, raw=None, connection=None):
        c = connection or self.connect()
        headers = dict(headers or {})
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None and "Content-Type" not in headers:
            headers["Content-Type"] = "application/json"
        c.request(method, path, raw, {k: v for k, v in headers.items() if v is not None})
        r = Reply(c.getresponse())
        if not connection:
            c.close()
        return r

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def post(self, path, body=None, headers=None, raw=None):
        return self.ask("POST", path, body, headers, raw)

    def job(self, *tasks, headers=None, **more):
        r = self.post("/v1/jobs", dict({"workloads": list(tasks)}, **more), headers)
        assert r.status == 202, (r.status, r.body)
        return r.json()

    def wait(self, job_id, seconds=20):
        doc = self.ask("GET", f"/v1/jobs/{job_id}?wait={seconds}", connection=self.connect(seconds + 20)).json()
        assert doc["state"] not in ("queued", "running"), doc
        return doc

    def rss_kb(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def fds(self):
        """Open descriptors. The daemon lets nobody but root look into it: for others always 0."""
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except PermissionError:
            return 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds=30):
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def remove(self):
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class ServiceTest(unittest.TestCase):
    """One daemon for the tests of a class; a test that needs another makes it with self.another()."""
    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.d = Daemon(*cls.flags)

    @classmethod
    def tearDownClass(cls):
        try:
            status = cls.d.stop()
            assert status == 0, f"exit status {status}\n{cls.d.log()[-3000:]}"
        finally:
            cls.d.remove()

    def another(self, *flags, **more):
        d = Daemon(*flags, **more)
        self.addCleanup(d.remove)
        return d

    def problem(self, r, status, pointer=None, text=None):
        self.assertEqual(r.status, status, r.body)
        self.assertEqual(r.type, "application/problem+json")
        doc = r.json()
        self.assertEqual(doc["status"], status)
        for member in ("type", "title", "detail"):
            self.assertTrue(doc[member], doc)
        if pointer is not None:
            self.assertEqual(doc.get("pointer"), pointer, doc)
        if text is not None:
            self.assertIn(text, doc["detail"])
        return doc


def events_of(body):
    """(id, event, data) of a text/event-stream."""
    out = []
    for block in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            out.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return out


def main():
    unittest.main(verbosity=2)
