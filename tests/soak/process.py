# SPDX-License-Identifier: Apache-2.0
"""A process of the soak: started, killed, started again, watched, and measured."""
import os
import re
import signal
import subprocess
import threading
import time


def now():
    """Seconds; the clock of the load's lines too."""
    return time.monotonic()


class Process:
    """@argv runs until it is told otherwise: one that ends by itself is started again each second, and what
    it said is kept. @ready: whether it serves. ours: of the project, and so measured."""

    def __init__(self, site, name, argv, env=None, prefix=(), ready=None, ours=True, clock=False, out=None):
        self.site, self.name, self.argv, self.prefix = site, name, list(argv), list(prefix)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith(("BERLIOZ_", "SINEW_", "NODE_", "AWS_"))}
        self.env.update(XDG_RUNTIME_DIR=site.home, XDG_STATE_HOME=site.home, HOME=site.home,
                        SINEW_MODULE_PATH="%s/src/connect/database:%s/src/connect/broker" % (site.build, site.build))
        self.env.update(env or {})
        self.ready, self.ours, self.out = ready, ours, out
        self.clock_file = os.path.join(site.home, name + ".clock") if clock and site.faketime else None
        if self.clock_file:
            self.set_clock(0)
            self.env.update(LD_PRELOAD=site.faketime, FAKETIME_TIMESTAMP_FILE=self.clock_file,
                            FAKETIME_CACHE_DURATION="1", FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1")
        self.lock = threading.Lock()
        self.p, self.wanted, self.starts, self.started = None, False, 0, 0.0
        self.ends = []  # (time, status, the last it said): ends nobody asked for

    def set_clock(self, seconds):
        """The process's wall clock, apart from the machine's; the monotonic one stays."""
        with open(self.clock_file + ".new", "w") as f:
            f.write("%+d\n" % seconds)
        os.rename(self.clock_file + ".new", self.clock_file)

    def log(self):
        return os.path.join(self.site.home, self.name + ".log")

    def said(self, n=400):
        with open(self.log(), errors="replace") as f:
            return " | ".join(f.read()[-n:].strip().split("\n"))

    def start(self):
        with self.lock:
            self.wanted = True
            self._start()

    def _start(self):
        with open(self.log(), "a") as log, open(self.out or self.log(), "a") as out:
            self.p = subprocess.Popen([*self.prefix, *self.argv], env=self.env, cwd=self.site.home,
                                      stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        self.starts += 1
        self.started = now()

    def kill(self):
        with self.lock:
            self.wanted = False
            if self.p and self.p.poll() is None:
                self.p.kill()
                self.p.wait()

    def stop(self, patience=40):
        """SIGTERM: its status, or None when it had to be killed."""
        with self.lock:
            self.wanted = False
            if self.p.poll() is None:
                self.p.send_signal(signal.SIGTERM)
            try:
                return self.p.wait(patience)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
                return None

    def tell(self, number):
        with self.lock:
            if self.alive():
                self.p.send_signal(number)

    def look(self):
        """Called now and then: an end nobody asked for is written down, and it starts again."""
        with self.lock:
            if not self.wanted or self.p.poll() is None or now() - self.started < 1:
                return
            self.ends.append((now(), self.p.returncode, self.said()))
            self._start()

    def wait_ready(self, patience=30):
        end = now() + patience
        while self.ready and not self.ready():
            if now() > end:
                raise RuntimeError("%s does not serve: %s" % (self.name, self.said()))
            time.sleep(0.05)

    def alive(self):
        return self.p is not None and self.p.poll() is None

    def measure(self):
        """(pid, RSS in KiB, private dirty in KiB, descriptors), or None."""
        pid = self.p.pid if self.alive() else 0
        try:
            with open("/proc/%d/smaps_rollup" % pid) as f:
                text = f.read()
            return (pid, *(int(re.search(r"^%s:\s+(\d+)" % k, text, re.M).group(1))
                           for k in ("Rss", "Private_Dirty")), len(os.listdir("/proc/%d/fd" % pid)))
        except (OSError, AttributeError):
            return None


class Outside:
    """A server of tests/services behind the same few words."""
    ours, ends, clock_file = False, (), None

    def __init__(self, name, server):
        self.name, self.server, self.starts = name, server, 1

    def kill(self):
        self.server.kill()

    def start(self):
        self.server.start()
        self.starts += 1

    def wait_ready(self, patience=0):
        pass  # start() waits

    def look(self):
        pass

    def measure(self):
        return None
