# SPDX-License-Identifier: Apache-2.0
"""What breaks, when, and for how long: a schedule made from a seed before anything runs. The machine's own
clock, disk and network are not touched."""
import os
import random
import ssl
import time

import counter
from process import now
from world import CHECKED, COUNTERS, COUNTING

GRACE = 12.0  # seconds after a fault within which failures are still its own
FIRST, CALM = 12.0, 30.0
WHOLE, KNOWN = 8.0, 1.0  # until all connectors are back after a fault; until they have read what agents know


class Fault:
    """letter: on the plot. begin(world, rng) -> what is done to what; end(world). alone: nothing else breaks."""

    def __init__(self, letter, name, begin, end=lambda world: None, seconds=(3, 8), needs=None, alone=False):
        self.letter, self.name, self.begin, self.end = letter, name, begin, end
        self.seconds, self.needs, self.alone = seconds, needs, alone


def killing(letter, *names):
    """kill -9 of one of them; it starts again at the end."""
    state = {}

    def begin(world, rng):
        state["name"] = rng.choice([n for n in names if n in world.processes])
        world.processes[state["name"]].kill()
        return state["name"]

    def end(world):
        p = world.processes[state["name"]]
        p.start()
        try:
            p.wait_ready(20)
        except RuntimeError as e:  # something else it needs is away: it goes on trying
            world.say("    " + str(e))
    return Fault(letter, "kill -9 " + names[0].split("-")[0], begin, end, (0.5, 6), needs=names[0])


def bad_line(world, rng):
    what = {"delay_ms": rng.randint(20, 120), "jitter_ms": rng.randint(0, 20), "loss": round(rng.uniform(0.01, 0.08), 3)}
    world.net.set(**what)
    return "the services: %(delay_ms)d +- %(jitter_ms)d ms, %(loss).1f %% lost" % dict(what, loss=what["loss"] * 100)


def no_line(world, rng):
    world.net.set(cut=True)
    return "the services: every packet is lost"


def cut(world, rng):
    name = rng.choice(sorted(world.lines))
    world.lines[name].set(cut=True)
    return "%s: nothing moves" % name


def uncut(world):
    for line in world.lines.values():
        line.set()


def drop(world, rng):
    name = rng.choice(sorted(world.lines))
    world.lines[name].wire.tell(drop=True)
    return "%s: every connection is broken" % name


def fill(world, rng):
    with open(os.path.join(world.state, "filler"), "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"\0" * (1 << 16))
        except OSError:
            pass
    return "hub-1.log, hub-2.log, registry-3, the sidecar's state and SQLite"


def unfill(world):
    os.unlink(os.path.join(world.state, "filler"))


CLOCKS = ("hub-1", "sidecar", "registry-3")


def jump(world, rng):
    name, seconds = rng.choice(CLOCKS), rng.choice((-1, 1)) * rng.choice((5, 90, 3700))
    world.processes[name].set_clock(seconds)
    return "%s: %+d s" % (name, seconds)


def unjump(world):
    for name in CLOCKS:
        world.processes[name].set_clock(0)


def certificate(world, rng):
    world.make_certificate()
    world.put("pem")
    time.sleep(0.4)  # until then the two do not belong together, and the old ones must be served
    world.put("key")
    return "front-1, front-2, agent-2"


def shown(world):
    """The new one must be served, by all, soon."""
    with open(os.path.join(world.home, "server.pem")) as f:
        wanted = f.read().strip()
    end = now() + 10
    for host, port in [*((world.net.far_host, p) for p in world.fronts), ("127.0.0.1", world.secret_agent)]:
        while True:
            try:
                if ssl.get_server_certificate((host, port), timeout=3).strip() == wanted:
                    break
            except (OSError, ssl.SSLError):
                pass
            if now() > end:
                world.ails("the new certificate is not served on port %d after 10 s" % port)
                break
            time.sleep(0.3)


def shrink(world, rng):
    gone = rng.randrange(COUNTERS)
    world.mesh([i for i in range(COUNTERS) if i != gone])
    return "counter-%d is taken out" % (gone + 1)


def sicken(world, rng):
    name, how = rng.choice(CHECKED), rng.choice(("answers 503", "hangs"))
    if name.startswith("grpc"):
        how = "answers 503"  # as gRPC says it
    world.processes[name].tell(counter.HOW[how])
    world.await_served(name, False)
    world.shunned.append([name, now() + KNOWN, None])
    return "%s %s" % (name, how)


def heal(world):
    name, world.shunned[-1][2] = world.shunned[-1][0], now()
    world.processes[name].tell(counter.HOW["well"])
    world.await_served(name, True)


KINDS = (
    killing("s", *(n for n in COUNTING if n.startswith("counter"))), killing("f", "front-1", "front-2"),
    killing("g", "grpc-1", "grpc-2"), killing("p", "sidecar"),
    killing("h", "hub-1", "hub-2"), killing("r", "registry-1", "registry-2", "registry-3"), killing("b", "bridge"),
    killing("a", "agent-1", "agent-2"), killing("e", "etcd"), killing("q", "postgres"), killing("n", "nats"), killing("d", "names"),
    killing("u", "subscriber-1", "subscriber-2"),
    Fault("L", "slow and lossy line", bad_line, lambda w: w.net.set(), (6, 15)),
    Fault("N", "line cut", no_line, lambda w: w.net.set(), (2, 6)),
    Fault("C", "connection hangs", cut, uncut, (2, 8)),
    Fault("X", "connections broken", drop, seconds=(0.2, 1)),
    Fault("D", "disk full", fill, unfill, (4, 12), needs="disk"),
    Fault("T", "clock jump", jump, unjump, (5, 15), needs="clock"),
    Fault("K", "certificates change", certificate, shown, (2, 3)),
    Fault("M", "mesh file changes", shrink, lambda w: w.mesh(), (3, 8)),
    Fault("U", "instance unwell", sicken, heal, (6, 12), alone=True),
)


SAME_LINE = {"L", "N"}


def schedule(seed, seconds, can):
    """[(from, to, fault)], every kind once before any comes twice; now and then two at once."""
    rng = random.Random(seed)
    kinds = [k for k in KINDS if k.needs is None or k.needs in can]
    plan, bag, at, pause = [], [], FIRST, (3, 6) if seconds < 600 else (5, 14)
    while True:
        if not bag:
            bag = rng.sample(kinds, len(kinds))
        kind = bag.pop()
        length = rng.uniform(*kind.seconds)
        if kind.alone:
            at = max([at, *(b + WHOLE for _, b, _ in plan)])
        if at + length > seconds - CALM:
            return plan, rng
        busy = {f.letter for a, b, f in plan if b > at - 1}
        if kind.letter not in busy and not (kind.letter in SAME_LINE and busy & SAME_LINE):
            plan.append((round(at, 1), round(at + length, 1), kind))
        at += rng.uniform(0.5, 2) if rng.random() < 0.15 and not kind.alone else length + rng.uniform(*pause)


def run(world, plan, rng, start, tick):
    """Until the plan is over; [{"at", "to", "kind", "letter", "what"}], seconds from @start. tick(): often."""
    log, open_ones = [], []
    events = sorted([(a, 1, i) for i, (a, _, _) in enumerate(plan)] + [(b, 0, i) for i, (_, b, _) in enumerate(plan)])
    for at, begins, i in events:
        while now() - start < at:
            tick()
            time.sleep(0.1)
        kind = plan[i][2]
        if begins:
            entry = {"at": now() - start, "kind": kind.name, "letter": kind.letter, "index": i}
            entry["what"] = kind.begin(world, rng)
            log.append(entry)
            open_ones.append(entry)
            world.say("%7.1f s  %s: %s" % (entry["at"], kind.name, entry["what"]))
        else:
            kind.end(world)
            for entry in [e for e in open_ones if e["index"] == i]:
                entry["to"] = now() - start
                open_ones.remove(entry)
        tick()
    return log
