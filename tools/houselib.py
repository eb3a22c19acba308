# SPDX-License-Identifier: Apache-2.0
"""What the checks in tools/ share: the list of files, C text without comments, the report."""
import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def files(*folders):
    """Files of the project below the folders (all when none is given), tracked or new."""
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--"] + list(folders),
                         cwd=ROOT, capture_output=True, text=True)
    if out.returncode == 0:
        names = set(out.stdout.split("\n")) - {""}
    else:  # a source archive without git
        names = {os.path.relpath(os.path.join(d, f), ROOT) for folder in folders or ["."]
                 for d, _, fs in os.walk(os.path.join(ROOT, folder)) for f in fs}
        names = {n for n in names if not n.startswith(("build", ".git/"))}
    return sorted(n for n in names if os.path.isfile(os.path.join(ROOT, n)))


def c_files():
    return [f for f in files() if f.endswith((".c", ".h"))]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def code_only(text, keep_strings=False):
    """C text with comments (and string contents) blanked; line numbers stay."""
    def blank(m):
        t = m.group(0)
        if t[0] == '"':
            return t if keep_strings else '""'
        if t[0] == "'":
            return t if keep_strings else "' '"
        return " " + "\n" * t.count("\n")
    return _TOKEN.sub(blank, text)


def report(name, looked_at, problems):
    for p in problems:
        print(p)
    print("%s: %d looked at, %d problems" % (name, looked_at, len(problems)))
    return 1 if problems else 0
