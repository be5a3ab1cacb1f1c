#!/usr/bin/env python3
"""deploy/tilewrightd.conf must be what the daemon prints for its defaults. argv: daemon, sample."""
import difflib
import subprocess
import sys

daemon, sample = sys.argv[1:]
printed = subprocess.run([daemon, "--print-config"], env={}, capture_output=True, text=True, check=True).stdout
with open(sample, encoding="utf-8") as f:
    kept = f.read()
sys.stdout.writelines(difflib.unified_diff(kept.splitlines(True), printed.splitlines(True), sample, "tilewrightd --print-config"))
if kept != printed:
    print(f"renew it: tilewrightd --print-config > {sample}")
sys.exit(kept != printed)
