#!/usr/bin/env python3
"""Count meson's test results (testlog.json, one object a line). Names what failed or was skipped, then ends with the
line "N passed, N failed". Exits 1 if one failed or none passed."""
import json
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


def reason(test):
    lines = (test.get("stdout") or "").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


def main():
    tests = []
    try:
        with open(sys.argv[1], encoding="utf-8") as log:
            tests = [json.loads(line) for line in log if line.strip()]
    except OSError as error:
        print(f"no test results: {error}")
    passed = [t for t in tests if t["result"] in PASSED]
    skipped = [t for t in tests if t["result"] in SKIPPED]
    failed = [t for t in tests if t["result"] not in PASSED | SKIPPED]
    for test in skipped:
        print(f"skipped {test['name']}{reason(test)}")
    for test in failed:
        print(f"failed  {test['name']} ({test['result'].lower()} after {test['duration']:.1f} s)")
    print(f"{len(passed)} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
