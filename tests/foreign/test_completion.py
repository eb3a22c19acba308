# SPDX-License-Identifier: Apache-2.0
"""Completion, asked of the shells themselves."""
import shutil
import subprocess

import pytest

from conftest import BINARY, PATIENCE
from terminal import Terminal

ASKED = [("regi", "registry"), ("brid", "bridge"), ("rep", "repl"), ("hub --onl", "--only"), ("peers ser", "service"), ("run --conf", "--config"), ("peers hyp", "hyperty"), ("--conf", "--config"),
         ("--config some.yaml hub --onl", "--only"), ("no-such", "")]


@pytest.fixture
def script(tmp_path):
    def make(shell, name):
        text = subprocess.run([BINARY, "generate", "completion", shell], capture_output=True,
                              text=True, check=True, timeout=PATIENCE).stdout
        (tmp_path / name).write_text(text)
        return tmp_path / name
    return make


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh(script, cleanup):
    folder = script("zsh", "_sinew").parent
    t = Terminal("zsh", "-f")
    cleanup(t)
    # What stands on the line after the key is printed by a widget, not guessed from the drawing.
    t.type("fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D; "
           "show() { print -r -- \"<<$BUFFER>>\"; BUFFER= }; zle -N show; bindkey '^X' show; "
           "print ready-$((6*7))\n" % folder)
    t.until("ready-42")
    for typed, wanted in ASKED:
        t.type("sinew %s\t\x18" % typed)
        line = t.until(">>").split("<<")[-1].split(">>")[0]
        start = typed.rpartition(" ")[0]
        assert line.split() == ["sinew"] + start.split() + [wanted or typed], line


def test_bash(script):
    """bash's own machinery fills COMP_WORDS; the function answers in COMPREPLY."""
    path = script("bash", "sinew")
    for typed, wanted in ASKED:
        words = ["sinew"] + typed.split()
        r = subprocess.run(
            ["bash", "--norc", "-c", 'source "$1"; shift; COMP_WORDS=("$@"); '
             'COMP_CWORD=$(($# - 1)); _sinew; printf "%s\\n" "${COMPREPLY[@]}"', "-", str(path)] + words,
            capture_output=True, text=True, timeout=PATIENCE)
        assert r.stderr == "" and r.stdout.split() == ([wanted] if wanted else []), (typed, r)


def test_no_other_shell():
    r = subprocess.run([BINARY, "generate", "completion", "tcsh"], capture_output=True, text=True)
    assert (r.returncode, r.stdout) == (2, "")
    assert r.stderr == "sinew: completion of bash or zsh, not of `tcsh`\n"
