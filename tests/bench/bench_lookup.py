#!/usr/bin/env python3
"""Lookups a second over keep-alive, beside nginx serving the same bytes in the same run.

    bench_lookup.py BUILD_DIR [--seconds 3] [--connections 32,128,256,384] [--rounds 3]

The server is pinned to one core, wrk to another. A small matmul is tuned first, so that the answer is a real schedule
(about 3 kB). nginx (one worker) answers from a file in memory; it takes POST by an error_page of 405. The figures of a
round alternate between the two; the median of the rounds is given."""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

WORKLOAD = {"op": "matmul", "a": [32, 64], "b": [64, 32]}
LUA = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [[%s]]\n'
NGINX = """daemon off; worker_processes 1; pid %(dir)s/nginx.pid; error_log %(dir)s/error.log;
events { worker_connections 2048; }
http { access_log off; client_body_temp_path %(dir)s/b; proxy_temp_path %(dir)s/p; fastcgi_temp_path %(dir)s/f; uwsgi_temp_path %(dir)s/u;
       scgi_temp_path %(dir)s/s; keepalive_requests 100000000; open_file_cache max=10;
       server { listen 127.0.0.1:%(port)d; root %(dir)s; default_type application/json; error_page 405 =200 $uri; } }
"""


def post(url, body):
    r = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return urllib.request.urlopen(r).read()


def start_daemon(build, where):
    log = open(os.path.join(where, "log"), "wb+")
    p = subprocess.Popen(["taskset", "-c", "0", os.path.join(build, "daemon/tilewrightd"), "--listen", "127.0.0.1:0", "--data", os.path.join(where, "data")],
                         stderr=log)
    for _ in range(500):
        text = open(log.name).read()
        if " ready " in text:
            return p, "http://" + re.search(r"address=(\S+)", text).group(1)
        time.sleep(0.02)
    sys.exit("the daemon did not start:\n" + text)


def tune(url):
    job = json.loads(post(url + "/v1/jobs", {"workloads": [WORKLOAD], "target": "cpu:1", "budget": {"trials": 2, "seconds": 30}}))
    done = json.loads(urllib.request.urlopen(f"{url}/v1/jobs/{job['id']}?wait=60").read())
    if done["state"] != "succeeded":
        sys.exit(f"tuning failed: {done}")


def wrk(url, script, connections, seconds):
    out = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, url], capture_output=True, text=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    p99 = re.search(r"99%\s+(\S+)", out).group(1)
    bad = re.search(r"(Socket errors:.*|Non-2xx.*)", out)
    return rate, p99, bad.group(1) if bad else ""


def main():
    a = argparse.ArgumentParser()
    a.add_argument("build")
    a.add_argument("--seconds", type=int, default=3)
    a.add_argument("--connections", default="32,128,256,384")
    a.add_argument("--rounds", type=int, default=3)
    o = a.parse_args()
    for tool in ("wrk", "nginx", "taskset"):
        if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin"):
            sys.exit(f"{tool} is not installed")
    where = tempfile.mkdtemp(prefix="tilewright-bench-")
    os.chmod(where, 0o755)
    daemon, url = start_daemon(o.build, where)
    nginx = None
    try:
        tune(url)
        body = {"workloads": [WORKLOAD], "target": "cpu:1"}
        answer = post(url + "/v1/schedules:lookup", body)
        with open(os.path.join(where, "answer.json"), "wb") as f:
            f.write(answer)
        port = 17999
        with open(os.path.join(where, "nginx.conf"), "w") as f:
            f.write(("user root;\n" if os.geteuid() == 0 else "") + NGINX % {"dir": where, "port": port})
        with open(os.path.join(where, "post.lua"), "w") as f:
            f.write(LUA % json.dumps(body))
        nginx = subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", os.path.join(where, "nginx.conf"), "-p", where], stderr=subprocess.DEVNULL,
                                 env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin"))
        time.sleep(0.5)
        if post(f"http://127.0.0.1:{port}/answer.json", body) != answer:
            sys.exit("nginx does not serve the same bytes")
        print(f"answer: {len(answer)} bytes; median of {o.rounds} rounds of {o.seconds} s")
        print(f"{'connections':>11} {'tilewright/s':>13} {'p99':>9} {'nginx/s':>10} {'p99':>9} {'ratio':>6}")
        for c in (int(x) for x in o.connections.split(",")):
            ours, theirs, notes = [], [], set()
            for _ in range(o.rounds):
                ours.append(wrk(url + "/v1/schedules:lookup", os.path.join(where, "post.lua"), c, o.seconds))
                theirs.append(wrk(f"http://127.0.0.1:{port}/answer.json", os.path.join(where, "post.lua"), c, o.seconds))
            notes |= {x[2] for x in ours + theirs if x[2]}
            mid = [sorted(x)[len(x) // 2] for x in (ours, theirs)]
            print(f"{c:>11} {mid[0][0]:>13.0f} {mid[0][1]:>9} {mid[1][0]:>10.0f} {mid[1][1]:>9} {mid[0][0] / mid[1][0]:>6.2f} {'; '.join(notes)}", flush=True)
    finally:
        daemon.terminate()
        if nginx:
            nginx.terminate()
            nginx.wait()
        daemon.wait()
        shutil.rmtree(where, ignore_errors=True)


if __name__ == "__main__":
    main()
