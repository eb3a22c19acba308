# SPDX-License-Identifier: Apache-2.0
"""Streams of kinesalite and programs that use them."""
import itertools
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../services"))
from fixtures import fault_proxy, kinesalite, sdk  # noqa: E402,F401

BUILD = os.path.abspath(os.environ.get("SINEW_BUILD_ROOT", os.path.join(HERE, "../../build")))
PEER = os.path.join(BUILD, "tests", "queue", "queue_peer")
BINARY = os.path.abspath(os.environ.get("SINEW_BINARY", os.path.join(BUILD, "sinew")))
PATIENCE = float(os.environ.get("SINEW_TEST_PATIENCE", "60"))
_numbers = itertools.count(1)


def mesh_file(path, streams):
    """@streams: {name: (stream, url)}."""
    queues = {name: {"1": {"streamName": stream, "config": {
        "region": "eu-north-1", "endpoint": url,
        "credentials": {"accessKeyId": "AK", "secretAccessKey": "SK"}}}}
        for name, (stream, url) in streams.items()}
    path.write_text(json.dumps({"peers": {"queue": queues}}))
    return str(path)


class Peer:
    """queue_peer: commands in, lines out."""

    def __init__(self, config):
        self.p = subprocess.Popen([PEER, config], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        self.lines, self.seen = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.p.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def say(self, *words):
        self.p.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.p.stdin.flush()

    def line(self, patience=PATIENCE):
        line = self.lines.get(timeout=patience)
        assert line is not None, "it ended: " + self.p.stderr.read()
        self.seen.append(line)
        return line

    def until(self, pattern, patience=PATIENCE):
        """The lines up to and with the first that matches."""
        lines, end = [], time.monotonic() + patience
        while True:
            try:
                lines.append(self.line(max(end - time.monotonic(), 0.01)))
            except queue.Empty:
                raise AssertionError("no %r in %r" % (pattern, lines[-20:])) from None
            if re.match(pattern, lines[-1]):
                return lines

    def put(self, name, records, deadline=0, retry="policy"):
        for key, data, *hashed in records:
            self.say("record", key, hashed[0] if hashed else "-", data.hex() or "-")
        self.say("put", name, deadline, retry)
        return self.put_end()

    def put_end(self):
        """(code, requests, failed, text, [(shard, sequence, type)])."""
        head = self.until("put ")[-1].split(" ", 4)
        return head[1], int(head[2]), int(head[3]), head[4], head

    def records(self, n):
        return [tuple(self.until("rec ")[-1].split(" ")[1:]) for _ in range(n)]

    def consume(self, name, start="trim-horizon", ms=0, shard="-", most=0, checkpoints=None):
        self.say("consume", name, start, ms, shard, most,
                 json.dumps(checkpoints, separators=(",", ":")) if checkpoints else "-")

    def got(self, n, patience=PATIENCE):
        """The next @n records: [(shard, sequence, key, data)]."""
        out, end = [], time.monotonic() + patience
        while len(out) < n:
            line = self.until("got ", max(end - time.monotonic(), 0.01))[-1].split(" ")
            assert line[4] == "1"  # it says when it arrived
            out.append((line[1], int(line[2]), line[3], bytes.fromhex(line[5])))
        return out

    def close(self):
        out, err = self.p.communicate(timeout=PATIENCE)
        assert self.p.returncode == 0, err
        assert err == ""


class Stream:
    def __init__(self, sdk, url, shards):
        self.sdk, self.url = sdk, url
        self.name = "s%d-%d" % (os.getpid(), next(_numbers))
        self.call("CreateStream", ShardCount=shards)
        self.active()

    def call(self, op, **params):
        answer = self.sdk.call("kinesis", op, {"StreamName": self.name, **params}, self.url)
        assert "error" not in answer, answer
        return answer

    def active(self):
        end = time.monotonic() + PATIENCE
        while self.call("DescribeStreamSummary")["StreamDescriptionSummary"][
                "StreamStatus"] != "ACTIVE":
            assert time.monotonic() < end
            time.sleep(0.02)  # a server of others: nothing tells us

    def shards(self):
        return self.call("DescribeStream")["StreamDescription"]["Shards"]

    def split(self, shard):
        info = [s for s in self.shards() if s["ShardId"] == shard][0]["HashKeyRange"]
        middle = (int(info["StartingHashKey"]) + int(info["EndingHashKey"])) // 2
        self.call("SplitShard", ShardToSplit=shard, NewStartingHashKey=str(middle))
        self.active()

    def merge(self, a, b):
        self.call("MergeShards", ShardToMerge=a, AdjacentShardToMerge=b)
        self.active()


@pytest.fixture
def stream(kinesalite, sdk):  # noqa: F811
    made = []

    def make(shards=1):
        made.append(Stream(sdk, kinesalite.url, shards))
        return made[-1]
    yield make
    for s in made:
        sdk.call("kinesis", "DeleteStream", {"StreamName": s.name}, s.url)


@pytest.fixture
def peer(tmp_path):
    made = []

    def make(**streams):
        config = mesh_file(tmp_path / ("mesh%d.yaml" % len(made)), streams)
        made.append(Peer(config))
        return made[-1]
    yield make
    for p in made:
        p.close()


class Tail:
    """sinew queue jobs tail: lines of JSON."""

    def __init__(self, config, *args):
        self.p = subprocess.Popen([BINARY, "queue", "jobs", "tail", "--config", config, *args],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.p.stdout:
            self.lines.put(json.loads(line))

    def got(self, n):
        return [self.lines.get(timeout=PATIENCE) for _ in range(n)]

    def end(self, sig=signal.SIGINT):
        """(exit status, stderr)."""
        if sig is not None:
            self.p.send_signal(sig)
        err = self.p.stderr.read()
        return self.p.wait(PATIENCE), err


@pytest.fixture
def tail(tmp_path):
    made = []

    def make(stream, url, *args):
        made.append(Tail(mesh_file(tmp_path / ("tail%d.yaml" % len(made)),
                                   {"jobs": (stream, url)}), *args))
        return made[-1]
    yield make
    for t in made:
        t.p.kill()
        t.p.wait()
