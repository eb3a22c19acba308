#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the shared library shows to its host: its own names only, each of them in a public header; and how it
binds. usage: symbols.py LIBRARY INCLUDE_DIR"""
import pathlib
import re
import subprocess
import sys


def run(*args):
    return subprocess.run(args, capture_output=True, text=True, check=True).stdout


def main(library, include):
    problems = []
    text = "".join(p.read_text() for p in pathlib.Path(include).rglob("*.h"))
    declared = set(re.findall(r"\b(sn_[a-z0-9_]+)\(", text))
    exported = {line.split()[-1].split("@")[0]
                for line in run("nm", "-D", "--defined-only", library).splitlines()}
    for name in sorted(exported):
        if not name.startswith("sn_") or name.startswith("sn__"):
            problems.append(f"{name} is exported, but not ours to export")
        elif name not in declared:
            problems.append(f"{name} is exported, but in no public header")
    if len(exported) < 50:
        problems.append(f"only {len(exported)} symbols are exported")
    dynamic = run("readelf", "-d", library)
    for flag in ("NODELETE", "NOW"):
        if not re.search(rf"FLAGS.*\b{flag}\b", dynamic):
            problems.append(f"not linked with -z {flag.lower()}")
    for heavy in ("libcurl", "libpq", "librdkafka"):
        if f"[{heavy}" in dynamic:
            problems.append(f"{heavy} belongs into a module")
    for p in problems:
        print(p)
    print(f"{len(exported)} symbols exported")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
