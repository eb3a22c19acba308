# SPDX-License-Identifier: Apache-2.0
"""All scenarios of tests/vectors/rethink-registry.json, over sockets, for each store. They run at once:
those that may share a registry do, the others have one each; so that waits do not add up."""
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry import SOURCE, Postgres, Registry

with open(os.path.join(SOURCE, "tests/vectors/rethink-registry.json")) as f:
    SCENARIOS = json.load(f)["scenarios"]
STORES = {"memory": "Ram", "sqlite": "SQLite", "postgres": "PostgreSQL"}


# ---- what is expected ----

def contains(want, got, saved):
    """Listed members, recursively; everything else equal."""
    if isinstance(want, dict) and len(want) == 1:
        (key, arg), = want.items()
        if key == "$match":
            return isinstance(got, str) and re.search(arg, got) is not None
        if key == "$saved":
            return got == saved[arg]
        if key == "$not_saved":
            return isinstance(got, str) and got != saved[arg]
    if isinstance(want, dict):
        return isinstance(got, dict) and all(
            k in got and contains(v, got[k], saved) for k, v in want.items())
    return type(want) is type(got) and want == got


def pointer(doc, path):
    for part in path.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        doc = doc[int(part)] if isinstance(doc, list) else doc[part]
    return doc


def check(expect, status, headers, body, saved):
    unknown = set(expect) - {"status", "json", "json_contains", "json_keys", "json_size", "json_absent",
                             "body_empty", "text", "text_contains", "header"}
    assert not unknown, unknown
    assert status == expect["status"], (status, body)
    for name, want in expect.get("header", {}).items():
        got = headers[name] or ""
        assert got.endswith(want) if name == "Location" else got.startswith(want), (name, got)
    if expect.get("body_empty"):
        assert body == b""
    if "text" in expect:
        assert body.decode() == expect["text"]
    for part in expect.get("text_contains", []):
        assert part in body.decode(), part
    if any(k.startswith("json") for k in expect):
        doc = json.loads(body)
        assert "json" not in expect or doc == expect["json"], doc
        assert "json_contains" not in expect or contains(expect["json_contains"], doc, saved), doc
        assert "json_keys" not in expect or set(doc) == set(expect["json_keys"]), doc
        assert "json_size" not in expect or len(doc) == expect["json_size"], doc
        for name in expect.get("json_absent", []):
            assert name not in doc, doc


def for_store(expect, store):
    """The name of the storage is the one thing that differs."""
    return json.loads(json.dumps(expect).replace("Storage type: Ram", "Storage type: " + store)
                      .replace('"Storage_type": "Ram"', '"Storage_type": "%s"' % store))


def play(scenario, registry, store):
    saved = {}
    conn = registry.connect()
    for i, step in enumerate(scenario["steps"]):
        try:
            if step.get("wait_ms"):
                time.sleep(step["wait_ms"] / 1000)
            body = step.get("raw_body", step.get("body"))
            status, headers, text = registry.request(
                step["method"], step["path"], body, step.get("headers"), conn)
            check(for_store(step["expect"], STORES[store]), status, headers, text, saved)
            for name, path in (step.get("save") or {}).items():
                saved[name] = pointer(json.loads(text), path)
        except Exception as e:
            return "%s, step %d %s %s: %s: %s" % (scenario["scenario"], i + 1, step["method"],
                                                  step["path"], type(e).__name__, e)
    conn.close()
    return None


# ---- the stores ----

class Stores:
    def __init__(self, kind):
        self.kind = kind
        self.postgres = Postgres() if kind == "postgres" else None

    def registry(self, env=None):
        section = {}
        if self.kind == "postgres":
            section["url"] = self.postgres.database()
        env = dict({"EXPIRES": "3600"}, **(env or {}))
        if self.kind == "memory":
            env["STORAGE_TYPE"] = "RAM"
        return Registry(section, env)

    def stop(self):
        if self.postgres is not None:
            self.postgres.stop()


def play_fresh(scenario, stores):
    registry = stores.registry(scenario.get("env"))
    problem = play(scenario, registry, stores.kind)
    log = registry.stop(check=False)
    return problem and problem + "\n" + log


def play_all(kind):
    stores = Stores(kind)
    try:
        shared = stores.registry()
        with ThreadPoolExecutor(48) as pool:
            waiting = sorted(SCENARIOS, key=lambda s: -sum(x.get("wait_ms", 0) for x in s["steps"]))
            jobs = [pool.submit(play_fresh, s, stores) if s.get("fresh")
                    else pool.submit(play, s, shared, kind) for s in waiting]
            problems = [p for p in (j.result() for j in jobs) if p]
        shared.stop()
    finally:
        stores.stop()
    return problems


@pytest.fixture(scope="module")
def all_stores():
    """All of them at once: it is waiting for the most part."""
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(STORES, pool.map(play_all, STORES)))


@pytest.mark.parametrize("kind", STORES)
def test_scenarios(kind, all_stores):
    assert len(SCENARIOS) == 118
    assert not all_stores[kind], "%d of 118\n" % len(all_stores[kind]) + "\n".join(all_stores[kind])
