# SPDX-License-Identifier: Apache-2.0
"""tools/soak, in namespaces of its own by now."""
import os
import statistics
import tempfile
import time

import faults
import ledger
import load
import page
from process import now
from world import TYPE, World

SAMPLE = 5.0  # seconds between measurements
SETTLE = 60


def middle(samples):
    """One sample of the medians of several."""
    return (*samples[-1][:3], *(statistics.median_low(s[i] for s in samples) for i in (3, 4, 5)))


class Soak:
    def __init__(self, seconds, seed, build, out):
        self.seconds, self.seed, self.out = seconds, seed, out
        self.home = tempfile.mkdtemp(prefix="sinew-soak-")
        os.chmod(self.home, 0o755)
        self.samples, self.sampled = [], 0.0
        self.rate = float(os.environ.get("SINEW_SOAK_RATE", "1"))
        self.world = World(self.home, build, self.say)
        self.book = ledger.Ledger()

    def say(self, text):
        print(text, flush=True)

    def tick(self):
        self.world.look()
        if now() - self.sampled < SAMPLE:
            return
        self.sampled = now()
        for name, p in self.world.processes.items():
            m = p.measure() if p.ours else None
            if m:
                self.samples.append((round(now() - self.start, 1), name, *m))

    def begin_load(self):
        w, r, home = self.world, self.rate, self.home
        side, steady = w.sidecars

        def at(name):
            return os.path.join(home, name + ".lines")
        w.pg.sql("CREATE TABLE soak (id TEXT PRIMARY KEY)")
        self.make_notes(side)
        self.loads = [
            load.Calls("sidecar", at("sidecar"), 30 * r, 6, side), load.Calls("sidecar-2", at("sidecar-2"), 30 * r, 6, steady),
            load.Resource("notes", at("notes"), 10 * r, 4, side, "/database/notes/execute", load.insert),
            load.Resource("ledger", at("ledger"), 10 * r, 4, steady, "/database/ledger/execute", load.insert),
            load.Messages("messages", at("messages"), 20 * r, 6, w.bridge), load.Rest("rest", at("rest"), 10 * r, 4, w.registries[2]),
            load.Reports("reports", at("reports"), 10 * r, 4, w.agents)]
        if w.npm:
            self.loads += [
                load.Resource("table", at("table"), 10 * r, 4, steady, "/database/table/PutItem", load.item),
                load.Resource("queue", at("queue"), 5 * r, 2, steady, "/queue/jobs/PutRecord", load.record)]
        self.python = list(self.loads)
        for x in self.loads:
            x.start()
        self.loads += [
            load.Peer(w, "grpc", ["grpc", "g", str(int(20 * r))], w.client),
            load.Peer(w, "calls", ["calls", "c", str(int(60 * r)), "plain", "tls", "named"], w.client),
            *(load.Peer(w, "events-%d" % i, ["publish", "publisher-%d" % i, str(int(10 * r)), TYPE, *hub], {})
              for i, hub in enumerate(w.hubs, 1))]

    def make_notes(self, port):
        """Its table; until the agent's first message is there."""
        one = load.Resource("make", os.devnull, 1, 1, port, "/database/notes/script",
                            lambda tag: {"sql": "CREATE TABLE soak (id TEXT PRIMARY KEY)"})
        end = now() + 30
        while True:
            r = one.one({}, "")
            if r == "ok":
                return
            if now() > end:
                raise RuntimeError("the sidecar's database: " + r)
            time.sleep(0.2)

    def run(self):
        w = self.world
        self.say("soak of %d s, seed %d, in %s" % (self.seconds, self.seed, self.home))
        w.start()
        self.say("everything serves; %s" % w.bad_line)
        self.start = now()
        self.version = page.commit()
        self.began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        self.begin_load()
        can = {name for name, there in (("disk", w.mounted), ("clock", w.faketime)) if there} | set(w.processes)
        plan, rng = faults.schedule(self.seed, self.seconds, can)
        self.log = faults.run(w, plan, rng, self.start, self.tick)
        while now() - self.start < self.seconds:
            self.tick()
            time.sleep(0.1)
        self.sampled = 0
        self.tick()
        self.lasted = now() - self.start
        self.say("%.0f s: the load ends" % self.lasted)
        for x in self.loads:
            x.stop()
        for x in self.loads:
            if not x.join():
                self.book.add("%s did not end" % x.name)

    def check(self):
        w, book = self.world, self.book
        self.streams = {x.name: ledger.Stream(x.name, x.path, self.start) for x in self.loads}
        s = self.streams
        self.events = [x for name, x in s.items() if name.startswith("events")]
        self.settle()
        seen = ledger.counted(w)
        for name in ("calls", "grpc", "sidecar", "sidecar-2"):
            mine = {i for _, _, i, _ in s[name].lines}
            book.stream(s[name], set(seen), repeated=sum(n - 1 for i, n in seen.items() if i in mine))
        book.stream(s["notes"], ledger.notes(w))
        book.stream(s["ledger"], set(w.pg.sql("SELECT id FROM soak").split("\n")))
        if w.npm:
            book.stream(s["table"], ledger.table(w))
            got = ledger.queue(w, len(s["queue"].acknowledged))
            book.stream(s["queue"], set(got), repeated=sum(n - 1 for n in got.values()))
        by = {x.name: x for x in self.python}
        ledger.entries(book, s["messages"], by["messages"], w.registries[0])
        ledger.entries(book, s["rest"], by["rest"], w.registries[2])
        ledger.reports(book, w, s["reports"], by["reports"])
        ledger.events(book, w, self.events)
        ledger.shunned(book, w)
        self.calm()
        self.processes()

    def settle(self):
        """Until what was promised to subscribers has come, but not for ever."""
        end = now() + SETTLE
        while now() < end and ledger.missing_events(self.events, ledger.deliveries(self.world)):
            self.world.look()
            time.sleep(0.5)

    def calm(self):
        """When nothing has been broken for a while nothing fails."""
        last = max([f["to"] for f in self.log], default=0)
        quiet = max(last + faults.GRACE, self.lasted - 15)
        for s in self.streams.values():
            late = [line for line in s.lines if line[0] > quiet]
            bad = ["%s: %s at %.1f s" % (i, r, t) for t, _, i, r in late if not r.startswith("ok")]
            if bad or not late:
                self.book.add("%s: %d of %d failed after everything was whole again" % (s.name, len(bad), len(late)), bad)

    def processes(self):
        """Nobody ended by himself; nobody has more at the end than after the warm-up."""
        self.memory = {}
        for name, p in self.world.processes.items():
            for at, status, said in p.ends:
                if not self.excused(at - self.start, status):
                    self.book.add("%s ended by itself at %.1f s with status %d (%s)" % (name, at - self.start, status, said))
        for name in dict.fromkeys(s[1] for s in self.samples):
            mine = [s for s in self.samples if s[1] == name]
            warm = [s for s in mine if s[0] >= faults.FIRST - SAMPLE]
            first, last = middle((warm or mine)[:page.MEDIAN_OF]), middle(mine[-page.MEDIAN_OF:])
            self.memory[name] = (first, last, max(s[3] for s in mine), max(s[5] for s in mine))
            if last[5] > first[5] + page.FDS_MORE:
                self.book.add("%s: descriptors grew from %d to %d" % (name, first[5], last[5]))
            if last[4] > first[4] + page.DIRTY_MORE_KB + (page.CACHE_KB if name in page.FILES else 0):
                self.book.add("%s: private dirty memory grew from %d to %d KiB" % (name, first[4], last[4]))
        for t in self.world.trouble:
            self.book.add(t)

    def excused(self, at, status):
        """A start that fails while what it needs is broken; never a signal."""
        return status == 1 and any(f["at"] - 1 <= at <= f["to"] + 5 for f in self.log)

    def finish(self):
        for name, why in self.world.stop().items():
            self.book.add("%s did not end in order: %s" % (name, why))


def main(seconds, seed, build, out, keep):
    soak = Soak(seconds, seed, build, out)
    try:
        soak.run()
        soak.check()
    except BaseException:
        soak.say("!!! the soak itself failed; what was said is in " + soak.home)
        soak.world.stop()
        raise
    soak.finish()
    for why in soak.book.wrong:
        soak.say("WRONG: " + why)
    page.write(soak, out)
    soak.say("%d discrepancies; the page: %s/README.md" % (len(soak.book.wrong), out))
    if not keep and not soak.book.wrong:
        soak.world.remove()
    else:
        soak.say("kept: " + soak.home)
    return 1 if soak.book.wrong else 0
