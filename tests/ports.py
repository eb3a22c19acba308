# SPDX-License-Identifier: Apache-2.0
"""Ports that stay this process's own until it ends, also while several test programs run at once.

A port that was merely free a moment ago may by now be another test's, or the near end of anybody's
connection. These come from below the kernel's range for the latter, and each is held by a lock on a
file until the process has gone.
"""
import fcntl
import os
import random
import socket
import tempfile

FIRST, LAST = 20000, 31999
_held = []


def _folder():
    path = os.path.join(tempfile.gettempdir(), "sinew-test-ports")
    os.makedirs(path, exist_ok=True)
    return path


def _is_free(port):
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                s.bind((host, port))
        except OSError as e:
            if family == socket.AF_INET or e.errno not in (97, 99):  # no IPv6 here
                return False
    return True


def free_port():
    """A port for TCP on any address, this process's (and its children's) own from now on."""
    for port in random.SystemRandom().sample(range(FIRST, LAST + 1), 2000):
        try:
            fd = os.open(os.path.join(_folder(), str(port)), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError:  # another user's
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            continue
        if _is_free(port):
            _held.append(fd)
            return port
        os.close(fd)
    raise RuntimeError("no free port between %d and %d" % (FIRST, LAST))


def free_ports(n):
    return [free_port() for _ in range(n)]
