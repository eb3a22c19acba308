# SPDX-License-Identifier: Apache-2.0
"""The page of a soak: README.md, load.svg and memory.svg."""
import bisect
import os
import platform
import re
import subprocess
from collections import Counter

from faults import CALM, FIRST, GRACE
from plot import Plot
from world import ROOT, STATE_MB

LONGEST = 30  # seconds that anything takes
# A process that has more at the end is a discrepancy; what is compared are medians of so many samples.
FDS_MORE, DIRTY_MORE_KB, MEDIAN_OF = 12, 3 * 1024, 5
FILES, CACHE_KB = ("registry-3", "sidecar"), 10 * 1024  # whose SQLite files grow, and the cache of 8 MiB with them

WHAT = {
    "calls": "`sn_request()` of a C program to seven instances that two agents name, plain, TLS and by DNS",
    "grpc": "gRPC of a C program to two servers of ours, every third call a stream of 10 messages both ways",
    "sidecar": "HTTP to a sidecar that is killed, the same service", "sidecar-2": "the same, by a sidecar that is never killed",
    "notes": "inserts into SQLite, by the sidecar", "ledger": "inserts into PostgreSQL, by sidecar-2",
    "table": "`PutItem`, dynalite, by sidecar-2", "queue": "`PutRecord`, kinesalite, by sidecar-2",
    "messages": "registry entries by `sinew bridge` and two registries on PostgreSQL",
    "rest": "registry entries by HTTP, a registry on SQLite",
    "reports": "reported at one of two agents on etcd, until a connector of the other is told",
    "events-1": "published to `hub-1` (etcd; NATS to the other), a subscriber at each at least once",
    "events-2": "the same, published to `hub-2`"}


def percentile(sorted_values, p):
    if not sorted_values:
        return None
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * p / 100))]


def buckets(streams, width, seconds):
    """Per bucket: latencies of what was answered, how many were not."""
    n = max(1, round(seconds / width))
    good, bad = [[] for _ in range(n)], [0] * n
    for s in streams:
        for t, ms, _, r in s.lines:
            i = min(max(int(t // width), 0), n - 1)
            if r.startswith("ok"):
                good[i].append(ms)
            else:
                bad[i] += 1
    return [sorted(g) for g in good], bad


def shape(ms):
    return "" if ms is None else "%.1f" % ms if ms < 100 else "%.0f" % ms


def width_of(seconds):
    return 60 if seconds >= 600 else 10


def latencies(plot, title, streams, width, seconds, height=150):
    good, _ = buckets(streams, width, seconds)
    plot.panel(title, height, {"p%g" % p: [((i + 0.5) * width, percentile(g, p)) for i, g in enumerate(good)]
                               for p in (50, 99, 99.9)}, log=(0.1, 10000), unit=" ms")


def load_plot(soak, path):
    seconds, width = soak.lasted, width_of(soak.lasted)
    plot = Plot("Latency of what was answered, by %s; faults are shaded" % ("minute" if width == 60 else "%d s" % width), seconds)
    s = soak.streams
    latencies(plot, "calls: sn_request() in a C program", [s["calls"]], width, seconds)
    latencies(plot, "grpc: unary calls and streams", [s["grpc"]], width, seconds, 110)
    latencies(plot, "sidecar, sidecar-2: HTTP to the sidecar", [s["sidecar"], s["sidecar-2"]], width, seconds)
    latencies(plot, "notes, ledger, table, queue: databases and queues",
              [s[k] for k in ("notes", "ledger", "table", "queue") if k in s], width, seconds, 110)
    latencies(plot, "events: published at either hub", soak.events, width, seconds, 110)
    latencies(plot, "messages, rest: registry entries", [s["messages"], s["rest"]], width, seconds, 110)
    latencies(plot, "reports: from one agent to the other's connectors", [s["reports"]], width, seconds, 110)
    fine = width / 6
    good, bad = buckets(s.values(), fine, seconds)
    plot.bars("everything, per second", 80, fine, [(i * fine, len(g) / fine) for i, g in enumerate(good)],
              [(i * fine, b / fine) for i, b in enumerate(bad)], ("answered", "failed"))
    plot.faults(soak.log)
    plot.write(path)


def memory_plot(soak, path):
    plot = Plot("Memory and descriptors of every process of ours; faults are shaded", soak.lasted)
    names = list(soak.memory)
    for title, column, scale, unit in (("RSS", 3, 1024, " MB"), ("private dirty", 4, 1024, " MB"), ("descriptors", 5, 1, "")):
        series = {}
        for name in names:
            pid, line = None, []
            for x in soak.samples:
                if x[1] != name or (pid == x[2] and x[0] - line[-1][0] < soak.lasted / 300):
                    continue
                if pid not in (None, x[2]):
                    line.append((x[0], None))  # another process
                pid = x[2]
                line.append((x[0], x[column] / scale))
            series[name] = line
        plot.panel(title, 190, series, unit=unit)
    plot.faults(soak.log)
    plot.write(path)


def machine():
    with open("/proc/cpuinfo") as f:
        model = re.search(r"model name\s*:\s*(.*)", f.read())
    with open("/proc/meminfo") as f:
        memory = int(re.search(r"MemTotal:\s+(\d+)", f.read()).group(1)) // (1 << 20)
    return "%s, %d processors, %d GiB, Linux %s" % (model.group(1) if model else platform.machine(), os.cpu_count(),
                                                    memory, platform.release())


def commit():
    r = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return r.stdout.strip() or "unknown"


def span(seconds):
    return "%d min %02d s" % divmod(round(seconds), 60)


def table(head, rows):
    def line(cells):
        return "| " + " | ".join(str(c) for c in cells) + " |"
    return [line(head), line(["---"] * len(head)), *map(line, rows), ""]


def streams(soak):
    rows = []
    for r in soak.book.rows:
        good, _ = buckets([soak.streams[r["name"]]], 1e9, 1)
        rows.append([r["name"], WHAT[r["name"]], r["sent"], r["ok"], r["failed"], r.get("stored", "see below"),
                     r.get("unasked", ""), r.get("repeated", ""), *(shape(percentile(good[0], p)) for p in (50, 99, 99.9))])
    return table(["stream", "what", "sent", "ok", "failed", "ok and stored", "stored, not answered", "repeated", "p50 ms",
                  "p99 ms", "p99.9 ms"], rows)


def reasons(soak):
    rows = []
    for r in soak.book.rows:
        text = ", ".join("%d %s" % (n, why) for why, n in sorted(r["reasons"].items(), key=lambda x: -x[1]))
        rows.append([r["name"], text or "nothing failed", r["note"]])
    return table(["stream", "failed for these reasons", "stored"], rows)


def near(f, t):
    return f["at"] - 3 <= t <= f["to"] + GRACE


def silence(soak, f):
    """The longest time around @f in which a stream, whichever, had no success; and which."""
    worst = (0.0, "")
    for s in soak.streams.values():
        last = f["at"]
        for t, ms, _, r in s.lines[bisect.bisect(s.lines, (f["at"] - LONGEST,)):]:
            done = t + ms / 1000
            if r.startswith("ok") and f["at"] <= done:
                worst = max(worst, (done - last, s.name))
                last = max(last, done)
                if done > f["to"] + GRACE:
                    break
    return worst


def kinds(soak):
    rows = []
    for kind in dict.fromkeys(f["kind"] for f in soak.log):
        mine = [f for f in soak.log if f["kind"] == kind]
        failed = sum(1 for s in soak.streams.values() for t, _, _, r in s.lines
                     if not r.startswith("ok") and any(near(f, t) for f in mine))
        worst = max(silence(soak, f) for f in mine)
        rows.append([mine[0]["letter"], kind, len(mine), "%.0f s" % sum(f["to"] - f["at"] for f in mine), failed,
                     "%.1f s, %s" % worst])
    return table(["", "fault", "times", "in all", "failed within %d s of it" % GRACE, "longest without a success"],
                 sorted(rows))


def every_fault(soak):
    return table(["at", "for", "", "fault", "what"], [
        ["%d:%04.1f" % divmod(f["at"], 60), "%.1f s" % (f["to"] - f["at"]), f["letter"], f["kind"], f["what"]]
        for f in soak.log])


def memory(soak):
    rows = []
    for name, (first, last, rss, fds) in soak.memory.items():
        rows.append([name, soak.world.processes[name].starts, *("%.1f" % (v / 1024) for v in (first[3], last[3], rss)),
                     *("%.1f" % (v / 1024) for v in (first[4], last[4])), first[5], last[5], fds])
    return table(["process", "starts", "RSS MB first", "last", "most", "private dirty MB first", "last", "descriptors first",
                  "last", "most"], rows)


def write(soak, out):
    os.makedirs(out, exist_ok=True)
    load_plot(soak, os.path.join(out, "load.svg"))
    memory_plot(soak, os.path.join(out, "memory.svg"))
    wrong = soak.book.wrong
    inside = sum(1 for s in soak.streams.values() for t, _, _, r in s.lines
                 if not r.startswith("ok") and any(near(f, t) for f in soak.log))
    failed = sum(r["failed"] for r in soak.book.rows)
    lines = [
        "# Soak", "",
        "Written by `make soak` from the run's own lines; CONTRIBUTING.md says how to read it.", "",
        *table(["", ""], [
            ["machine", machine()], ["began", soak.began], ["lasted", span(soak.lasted)],
            ["load of the machine at the end", "%.1f %.1f %.1f (1, 5, 15 min)" % os.getloadavg()],
            ["version", soak.version],
            ["command", "`SINEW_SOAK=%s SINEW_SOAK_SEED=%d make soak PART=load`" % (
                os.environ.get("SINEW_SOAK", "1h"), soak.seed)],
            ["bad line", soak.world.bad_line], ["state directory", "tmpfs of %d MB" % STATE_MB],
            ["left out", "; ".join(soak.world.missing) or "nothing"]]),
        *([os.environ["SINEW_SOAK_NOTE"], ""] if os.environ.get("SINEW_SOAK_NOTE") else []),
        "## Result", "",
        "**%s**" % ("Everything adds up." if not wrong else "%d discrepancies:" % len(wrong)), "",
        *["* " + w.replace("|", "/").replace("\n", " ")[:1200] for w in wrong], *([""] if wrong else []),
        "%d things were begun, %d were answered, %d failed, %d of them within %d s of a fault. %d faults of %d kinds." % (
            sum(r["sent"] for r in soak.book.rows), sum(r["ok"] for r in soak.book.rows), failed, inside, GRACE,
            len(soak.log), len(Counter(f["kind"] for f in soak.log))), "",
        *streams(soak),
        "*ok and stored*: of those that were answered with success, how many the service's log, the database or the "
        "queue has. *stored, not answered*: the answer was lost, the work was done. *repeated*: done more than once "
        "under one id (retries; of events: delivered twice). Percentiles are of what was answered.", "",
        *reasons(soak),
        "## Latency", "", "![latency](load.svg)", "",
        "## Faults", "", *kinds(soak), "<details><summary>every fault</summary>", "", *every_fault(soak), "</details>", "",
        "## Memory and descriptors", "",
        "*first*: after the warm-up of %d s; *last*: under the same load at the end; medians of %d samples. Where a process "
        "was killed meanwhile its successor is measured. Nothing breaks in the last %d s. More than %d descriptors or %.0f MB "
        "private dirty more than at first would be a discrepancy; %s may have the %.0f MB of SQLite's cache on top." % (
            FIRST, MEDIAN_OF, CALM, FDS_MORE, DIRTY_MORE_KB / 1024, " and ".join(FILES), CACHE_KB / 1024), "",
        *memory(soak), "![memory](memory.svg)", ""]
    with open(os.path.join(out, "README.md"), "w") as f:
        f.write("\n".join(lines))
