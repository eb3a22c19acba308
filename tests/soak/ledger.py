# SPDX-License-Identifier: Apache-2.0
"""What was told to the load against what is there: every line of every stream, and what the stores hold."""
import base64
import contextlib
import http.client
import json
import sqlite3
import time
from collections import Counter

from load import quoted
from world import COUNTING, post

# Why something may fail while things break. Anything else is a fault of ours.
KNOWN = {"NO_PEER", "BREAKER", "OVERLOAD", "TIMEOUT", "DEADLINE", "CONNECT", "RESET", "EOF", "IO", "TLS", "STATUS",
         "UNAVAILABLE", "CLOSED", "client:refused", "client:reset"}
MORE = {"messages": {"CODE_503", "CODE_504"}, "rest": {"HTTP_503"}, "notes": {"LIMIT"},  # the disk is full
        "reports": {"HTTP_503"}, "grpc": {"DEADLINE_EXCEEDED"}}
SHOWN = 20  # examples of a discrepancy


class Stream:
    """The lines of one: (begun, took in ms, id, result), seconds from @start; sent: as its program counted."""

    def __init__(self, name, path, start):
        self.name, self.lines, self.sent = name, [], 0
        with open(path, errors="replace") as f:
            for line in f:
                part = line.split()
                if part[:1] == ["sent"]:
                    self.sent = int(part[1])
                elif len(part) == 4:
                    self.lines.append((int(part[0]) / 1000 - start, int(part[1]) / 1000, part[2], part[3]))
        self.lines.sort()
        self.acknowledged = {i for _, _, i, r in self.lines if r.startswith("ok")}
        self.reasons = Counter(r for _, _, _, r in self.lines if not r.startswith("ok"))

    def unknown(self):
        return {r: n for r, n in self.reasons.items()
                if r.removeprefix("SN_E_") not in KNOWN | MORE.get(self.name, set())}


class Ledger:
    def __init__(self):
        self.wrong = []   # discrepancies, a sentence each
        self.rows = []    # of the table: {"name", "sent", "ok", "failed", "reasons", "stored", "note"}

    def add(self, sentence, examples=()):
        examples = sorted(examples)
        self.wrong.append(sentence + (": " + ", ".join(examples[:SHOWN]) + (
            " ..." if len(examples) > SHOWN else "") if examples else ""))

    def stream(self, s, stored=None, note="", repeated=None):
        """Sent = ended; known reasons; what was acknowledged is in @stored (a set of ids; None: no such check)."""
        failed = sum(s.reasons.values())
        ok = sum(r.startswith("ok") for _, _, _, r in s.lines)
        if s.sent != ok + failed or s.sent == 0:
            self.add("%s: %d sent, but %d ok and %d failed" % (s.name, s.sent, ok, failed))
        for why, n in s.unknown().items():
            self.add("%s: %d failed for a reason that is none: %s" % (s.name, n, why),
                     ["%s at %.1f s" % (i, t) for t, _, i, r in s.lines if r == why])
        row = {"name": s.name, "sent": s.sent, "ok": ok, "failed": failed, "reasons": dict(s.reasons), "note": note}
        if stored is not None:
            lost = s.acknowledged - stored
            if lost:
                self.add("%s: %d acknowledged, but not stored" % (s.name, len(lost)), lost)
            mine = {i for _, _, i, _ in s.lines}
            row.update(stored=len(s.acknowledged & stored), unasked=len((stored & mine) - s.acknowledged))
        if repeated is not None:
            row["repeated"] = repeated
        self.rows.append(row)


def counted(world):
    """Ids in the services' logs, and how often each."""
    seen = Counter()
    for name in COUNTING:
        with contextlib.suppress(FileNotFoundError), open(world.counted(name)) as f:
            seen.update(line.strip() for line in f)
    return seen


def shunned(ledger, world):
    """Nobody calls an instance that is known to be unwell."""
    for name, begin, end in world.shunned:
        with contextlib.suppress(FileNotFoundError), open(world.counted(name) + ".unwell") as f:
            late = [line.split()[1] for line in f if begin * 1000 < int(line.split()[0]) < end * 1000]
            if late:
                ledger.add("%d calls went to %s although it was known to be unwell" % (len(late), name), late)


def table(world):
    found, at = set(), {}
    while True:
        a = post(world.dynalite.port, "DynamoDB_20120810.Scan", dict({"TableName": "table"}, **at))
        found.update(i["id"]["S"] for i in a["Items"])
        if "LastEvaluatedKey" not in a:
            return found
        at = {"ExclusiveStartKey": a["LastEvaluatedKey"]}


def queue(world, at_least):
    found, port = Counter(), world.kinesalite.port
    it = post(port, "Kinesis_20131202.GetShardIterator", {
        "StreamName": "jobs", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"})["ShardIterator"]
    empty = 0
    while empty < 3 and (empty == 0 or len(found) < at_least):
        a = post(port, "Kinesis_20131202.GetRecords", {"ShardIterator": it, "Limit": 5000})
        found.update(base64.b64decode(r["Data"]).decode() for r in a["Records"])
        it, empty = a["NextShardIterator"], 0 if a["Records"] else empty + 1
        time.sleep(0.21)  # five a second
    return found


def notes(world):
    db = sqlite3.connect("file:%s/notes.db?mode=ro" % world.state, uri=True)
    try:
        return {i for i, in db.execute("SELECT id FROM soak")}
    finally:
        db.close()


def deliveries(world):
    """Of each subscriber: how often each number came."""
    out = []
    for path in world.delivered:
        with open(path) as f:
            out.append(Counter(p[2] for p in (line.split() for line in f) if len(p) == 4 and p[3] == "got"))
    return out


def missing_events(streams, got):
    """At least once: what was acknowledged has come to every subscriber, through whichever hub; from when each
    hub has told its publisher that it has one."""
    firsts = [min((t + ms / 1000 for t, ms, _, r in s.lines if r.startswith("ok:") and r != "ok:0"), default=0) for s in streams]
    return ["%s (at %.1f s, came to %d)" % (i, t, sum(i in g for g in got)) for s in streams for t, _, i, r in s.lines
            if r.startswith("ok:") and t > max(firsts) and not all(i in g for g in got)]


def events(ledger, world, streams):
    got = deliveries(world)
    lost = missing_events(streams, got)
    if lost:
        ledger.add("events: %d acknowledged, but not delivered to every subscriber" % len(lost), lost)
    known = {i for s in streams for _, _, i, _ in s.lines}
    if set().union(*got) - known:
        ledger.add("events: delivered, but never published", set().union(*got) - known)
    for s in streams:
        mine = [{i: n for i, n in g.items() if i.startswith(s.name.replace("events", "publisher") + ".")} for g in got]
        ledger.stream(s, repeated=sum(n - 1 for g in mine for n in g.values()),
                      note="delivered %s, %d of them although the publisher was told it failed" % (
                          " and ".join(str(len(g)) for g in mine), len(set().union(*mine) - s.acknowledged)))


def reports(ledger, world, s, load):
    """Both agents tell what was taken last."""
    ledger.stream(s, note="%d tasks, read at both agents" % len(load.may))
    for task, may in load.may.items():
        for i, agent in enumerate(world.agents):
            got = world.metadata(agent, task).get("soak")
            if got not in may:
                ledger.add("reports: agent-%d tells %s of %s, not %s" % (i + 1, got, task, " or ".join(map(str, may))))


def entries(ledger, s, load, port):
    """Every entry that was acknowledged can be read, and is what was said of it last."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    lost, kinds = [], Counter(load.state.values())
    for url, state in load.state.items():
        c.request("GET", "/hyperty/url/" + quoted(url))
        r = c.getresponse()
        text = r.read()
        live = r.status == 200 and json.loads(text).get("status") == "live"
        gone = r.status == 408
        # What has expired reads as gone; by a clock that jumped that may be early, so only absence is a loss.
        if (state == "live" and not (live or gone)) or (state == "gone" and not gone) or \
                (state == "unsure-gone" and not (live or gone)):
            lost.append("%s is %s, read as %d %s" % (url, state, r.status, text[:60].decode(errors="replace")))
    c.close()
    if lost:
        ledger.add("%s: entries are not as acknowledged" % s.name, lost)
    ledger.stream(s, note="%d entries: %s; all read back" % (len(load.state), ", ".join(
        "%d %s" % (n, k) for k, n in sorted(kinds.items()))))
