#!/usr/bin/env python3
"""Turns a driver's declaration into C: embed_json.py NAME INPUT.json OUTPUT.c makes `const char NAME[]`."""
import json
import sys

name, source, target = sys.argv[1:]
with open(source, encoding="utf-8") as file:
    text = json.dumps(json.load(file), ensure_ascii=False, separators=(",", ":"))
quoted = json.dumps(text, ensure_ascii=True)[1:-1]  # JSON's \" and \\ are C's; the rest is ASCII or \uXXXX
if "\\u" in quoted:
    quoted = "".join(f"\\{b:03o}" if b >= 0x80 else chr(b) for b in text.replace("\\", "\\\\").replace('"', '\\"').encode())
pieces = [quoted[i:i + 100] for i in range(0, len(quoted), 100)]
# A piece must not end inside an escape: move trailing backslashes on.
for i in range(len(pieces) - 1):
    while pieces[i].endswith("\\") and (len(pieces[i]) - len(pieces[i].rstrip("\\"))) % 2:
        pieces[i + 1] = pieces[i][-1] + pieces[i + 1]
        pieces[i] = pieces[i][:-1]
with open(target, "w", encoding="utf-8") as file:
    file.write(f"extern const char {name}[];\nconst char {name}[] =\n")
    file.write("\n".join(f'\t"{piece}"' for piece in pieces))
    file.write(";\n")
