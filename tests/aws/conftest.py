# SPDX-License-Identifier: Apache-2.0
"""Our tool, and servers that are not ours."""
import json
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../services"))
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from fixtures import dynalite, fault_proxy, kinesalite, swift  # noqa: E402,F401

TOOL = os.path.join(os.environ.get("SINEW_BUILD_ROOT", "build"), "tests", "aws", "aws_tool")


@pytest.fixture
def sign():
    """Authorization headers of ours for a list of requests."""
    def run(requests):
        r = subprocess.run([TOOL, "sign"], input="".join(json.dumps(q) + "\n" for q in requests),
                           capture_output=True, text=True, timeout=120)
        assert r.returncode == 0, r.stderr
        out = r.stdout.splitlines()
        assert len(out) == len(requests)
        return out
    return run


@pytest.fixture
def call(tmp_path):
    """call(config, [(operation, params)...], env, service, at_once): what became of each."""
    def run(config, lines, env=None, service="dynamodb", at_once=1):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        clean.update({"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}, **(env or {}))
        text = "".join("%s %s\n" % (op, json.dumps(params)) for op, params in lines)
        r = subprocess.run([TOOL, "call", service, json.dumps(config), str(at_once)], input=text,
                           env=clean, capture_output=True, text=True, timeout=60)
        if r.returncode != 0:
            return r.stderr.strip()
        answers = sorted((json.loads(line) for line in r.stdout.splitlines()),
                         key=lambda a: a["index"])
        assert len(answers) == len(lines)
        for a in answers:
            a["answer"] = json.loads(a["answer"] or "{}") if a["class"] == "ok" else a["answer"]
        return answers
    return run
