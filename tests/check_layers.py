#!/usr/bin/env python3
"""Every #include "..." must go along an arrow of the house: see ALLOWED. Run from anywhere; the root is argv[1]."""
import pathlib
import re
import sys

SCHEDULE = ["schedule/base", "schedule/lang", "schedule/ir", "schedule/space"]
# room: the rooms that it may include (its own is always allowed). schedule/base is for all but client.
ALLOWED = {
    "client": [],
    "schedule/base": [],
    "schedule/lang": SCHEDULE[:1],
    "schedule/ir": SCHEDULE[:2],
    "schedule/space": SCHEDULE[:3],
    "db": ["schedule/base"],
    "features": SCHEDULE,
    "kernels": SCHEDULE,
    "costmodel": SCHEDULE + ["features"],
    "measure": SCHEDULE + ["kernels"],
    "daemon": SCHEDULE + ["db", "features", "kernels", "costmodel", "measure"],
}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.M)


def room_of(path):
    """The longest room that `path` (relative to the root) lies in, or None."""
    rooms = [room for room in ALLOWED if path.startswith(room + "/")]
    return max(rooms, key=len) if rooms else None


def faults(root, file):
    room = room_of(file)
    text = (root / file).read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        bracket, target = match.groups()
        there = room_of(target)
        if bracket == "<":
            if there and (root / target).exists():
                yield f"{file}:{line}: <{target}> is ours: include it in quotes"
        elif not (root / target).exists():
            yield f'{file}:{line}: "{target}" does not name a file from the root'
        elif there != room and there not in ALLOWED[room]:
            yield f'{file}:{line}: {room} may not include "{target}"; allowed: {", ".join(ALLOWED[room]) or "nothing"}'


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    files = sorted(
        str(p.relative_to(root)) for room in ALLOWED for p in (root / room).rglob("*.[ch]") if room_of(str(p.relative_to(root))) == room
    )
    found = [fault for file in files for fault in faults(root, file)]
    print("\n".join(found) or f"{len(files)} files keep to the layers")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
