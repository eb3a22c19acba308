# SPDX-License-Identifier: Apache-2.0
"""What lies between sinew and its peers: Streams (a process in between, works everywhere) and
Namespaces (two network namespaces; tc netem between them where the kernel has it, else wire.py on TUN
devices, which the kernel's own TCP meets as packets late, lost and in disorder)."""
import fcntl
import itertools
import json
import os
import select
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CALM = {"delay_ms": 0, "jitter_ms": 0, "loss": 0, "reorder": 0, "cut": False}
count = itertools.count()


class Impossible(Exception):
    pass


class Wire:
    def __init__(self, *args, **kw):
        self.p = subprocess.Popen([sys.executable, os.path.join(HERE, "wire.py"), *map(str, args)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **kw)

    def tell(self, **what):
        self.p.stdin.write(json.dumps(what) + "\n")
        self.p.stdin.flush()
        ready, _, _ = select.select([self.p.stdout], [], [], 10)
        assert ready, "the wire does not answer"
        return self.p.stdout.readline().strip()

    def stop(self):
        self.p.stdin.close()
        self.p.wait()


class Streams:
    """Sinew and its peers share the machine's loopback; what goes to a peer goes through the wire."""
    name = "streams"
    near = []  # how a command is run at sinew's end
    far = []   # and at the peers'
    far_host = "127.0.0.1"

    def __init__(self):
        self.wire = Wire("stream")

    def place(self, port):
        """Where sinew finds what listens on @port at the far end."""
        return "127.0.0.1", int(self.wire.tell(listen=["127.0.0.1", port]))

    def set(self, **what):
        assert self.wire.tell(**dict(CALM, **what)) == "ok"

    def stop(self):
        self.wire.stop()


def ip(*args):
    r = subprocess.run(["ip", *args], capture_output=True, text=True)
    if r.returncode != 0:
        raise Impossible("ip %s: %s" % (" ".join(args), r.stderr.strip()))


def has_netem(space):
    return subprocess.run(["ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", "lo", "root",
                           "netem", "delay", "1ms"], capture_output=True).returncode == 0


def tun(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))  # TUN, no header
    return fd


class Namespaces:
    name = "namespaces"
    near_host, far_host = "10.213.7.1", "10.213.7.2"

    def __init__(self):
        tag = "sn%s-%d" % (os.urandom(3).hex(), next(count))  # in a PID namespace everybody is 1
        self.spaces = []
        self.wire = None
        self.devices = ["%sa" % tag, "%sb" % tag]
        self.near, self.far = (["ip", "netns", "exec", d] for d in self.devices)
        try:
            self._make()
        except (Impossible, OSError) as e:
            self.stop()
            raise Impossible(str(e)) from e

    def _make(self):
        for space in self.devices:
            ip("netns", "add", space)
            self.spaces.append(space)
            ip("-n", space, "link", "set", "lo", "up")
        self.netem = has_netem(self.devices[0])
        if self.netem:
            subprocess.run([*self.near, "tc", "qdisc", "del", "dev", "lo", "root"], check=True)
            ip("link", "add", self.devices[0], "type", "veth", "peer", "name", self.devices[1])
        else:
            fds = [tun(d) for d in self.devices]
            self.wire = Wire("packets", *fds, pass_fds=fds)
            for fd in fds:
                os.close(fd)
        for device, host in zip(self.devices, (self.near_host, self.far_host)):
            ip("link", "set", device, "netns", device)
            ip("-n", device, "addr", "add", host + "/24", "dev", device)
            ip("-n", device, "link", "set", device, "mtu", "1500", "up")

    def place(self, port):
        return self.far_host, port

    def set(self, **what):
        what = dict(CALM, **what)
        if not self.netem:
            assert self.wire.tell(**what) == "ok"
            return
        netem = ["delay", "%gms" % what["delay_ms"], "%gms" % what["jitter_ms"],
                 "loss", "%g%%" % (100 if what["cut"] else what["loss"] * 100)]
        if what["reorder"]:
            netem += ["reorder", "%g%%" % (what["reorder"] * 100)]
        for d in self.devices:
            subprocess.run(["ip", "netns", "exec", d, "tc", "qdisc", "replace", "dev", d, "root",
                            "netem", *netem, "limit", "100000"], check=True)

    def stop(self):
        if self.wire is not None:
            self.wire.stop()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
        self.spaces = []
