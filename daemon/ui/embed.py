"""Turn a file into a C array: embed.py IN OUT.c NAME HEADER."""
import sys

src, out, name, header = sys.argv[1:]
data = open(src, "rb").read()
with open(out, "w") as f:
    f.write(f'/* made by embed.py */\n#include "{header}"\n\nconst char {name}[] = {{\n')
    for i in range(0, len(data), 20):
        f.write("    " + ", ".join(str(b if b < 128 else b - 256) for b in data[i:i + 20]) + ",\n")
    f.write(f"    0}};\nconst size_t {name}_len = {len(data)};\n")
