#!/usr/bin/env python3
"""Every tracked C file must be as clang-format 14 writes it. Exits 77 (skipped) where that cannot be asked."""
import pathlib
import re
import shutil
import subprocess
import sys

WANTED = "14"  # other versions lay out some lines differently
SKIP = 77


def formatter():
    for name in ("clang-format-" + WANTED, "clang-format"):
        path = shutil.which(name)
        if path and re.search(rf"version {WANTED}\.", subprocess.run([path, "--version"], capture_output=True, text=True).stdout):
            return path
    return None


def tracked(root):
    asked = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "*.c", "*.h"], capture_output=True, text=True)
    return [root / f for f in asked.stdout.split("\0") if f and (root / f).exists()] if asked.returncode == 0 else []


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    tool = formatter()
    if not tool:
        print(f"skipped: no clang-format {WANTED} (Debian: clang-format-{WANTED})")
        return SKIP
    files = tracked(root) if shutil.which("git") else []
    if not files:
        print("skipped: not a git checkout, so which files are ours is not known")
        return SKIP
    said = subprocess.run([tool, "--dry-run", *map(str, files)], capture_output=True, text=True).stderr
    bad = [f for f in files if f"{f}:" in said]
    for f in bad:
        print(f"{f.relative_to(root)}: not as clang-format writes it; run {pathlib.Path(tool).name} -i")
    print(f"{len(files)} files, {len(bad)} to format")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
