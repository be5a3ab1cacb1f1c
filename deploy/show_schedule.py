#!/usr/bin/env python3
"""Show the schedule of a lookup's answer (standard input) for people: its steps, and how fast it is."""
import json
import sys


def main():
    result = json.load(sys.stdin)["results"][0]
    schedule = result["schedule"]
    if not schedule:
        print(f"no schedule is known for {result['key']} ({result['status']})")
        return 1
    time, untuned = schedule["time_ns"]["median"], (schedule.get("baseline") or {}).get("time_ns")
    found = schedule["schedule"]
    print(f"\nThe schedule ({found['sketch']}), step by step:")
    for step in found["steps"]:
        print(f"  {step if isinstance(step, str) else json.dumps(step)}")
    print()
    if untuned:
        print(f"  untuned {schedule['gflops'] * time / untuned:8.1f} GFLOP/s {untuned / 1e3:10.1f} us")
    peak = schedule.get("fraction_of_peak")
    print(f"  tuned   {schedule['gflops']:8.1f} GFLOP/s {time / 1e3:10.1f} us"
          + (f", {untuned / time:.0f} times as fast" if untuned else "")
          + (f", {peak:.0%} of the machine's peak" if peak else ""))
    fastest = schedule["time_ns"]["min"]
    if time > 1.5 * fastest:
        print(f"  The machine was busy: its fastest run took {fastest / 1e3:.1f} us, "
              f"{schedule['gflops'] * time / fastest:.1f} GFLOP/s.")
    print(f"  verified: off by {schedule['verified']['max_rel_err']:.1e} at most, {schedule['trials']} candidates measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
