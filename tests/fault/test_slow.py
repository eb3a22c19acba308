# SPDX-License-Identifier: Apache-2.0
"""Clients that take their time: heads and bodies byte by byte, answers that nobody reads."""
import socket
import threading
import time

from fault import LONG, SANITIZED, Floor, Load, Peer, Sinew, wait_until

CLIENTS = 300 if LONG else 100  # of each kind
HEAD_TIMEOUT = 10                # fixed: of a head from its first byte on
HEAD = b"POST /call/service/app/web/sum HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"


class Slow:
    """Clients of one kind; all are fed by one thread."""

    def __init__(self, sinew, first, drip):
        self.drip = drip
        self.socks = []
        self.ended = {}  # socket -> (seconds, what it was told)
        self.start = time.monotonic()
        for _ in range(CLIENTS):
            s = socket.socket(socket.AF_UNIX)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(sinew.sidecar)
            s.sendall(first)
            s.setblocking(False)
            self.socks.append(s)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping.wait(0.5):
            for s in self.socks:
                if s in self.ended:
                    continue
                try:
                    if self.drip:
                        s.send(self.drip)
                except BlockingIOError:
                    pass
                except OSError:
                    self._end(s)
                if self.drip:
                    try:
                        if s.recv(1, socket.MSG_PEEK) is not None:
                            self._end(s)
                    except BlockingIOError:
                        pass
                    except OSError:
                        self._end(s)

    def _end(self, s):
        try:
            said = s.recv(4096)
        except OSError:
            said = b""
        self.ended[s] = (time.monotonic() - self.start, said)
        s.close()

    def stop(self):
        self.stopping.set()
        self.thread.join()
        for s in self.socks:
            s.close()


def quick(sinew):
    start = time.monotonic()
    status, _, _ = sinew.ask("/call/service/app/web/small/x")
    return status == 200 and time.monotonic() - start < 0.1


def test_slow_clients(tmp_path, cleanup):
    # A slow client holds a connection to its peer, too: there must be enough for the others.
    sinew = cleanup(Sinew(tmp_path, [cleanup(Peer())], policies={
        "pool-max": 3 * CLIENTS, "max-inflight": 10 * CLIENTS}))
    Load(sinew).run(0.5).end()
    floor = Floor(sinew)
    heads = cleanup(Slow(sinew, b"GET /call/service/app/web/small/x HTTP/1.1\r\nX: ", b"x"))
    bodies = cleanup(Slow(sinew, HEAD % 1000 + b"sinew-timeout-ms: 3000\r\n\r\n", b"x"))
    readers = cleanup(Slow(
        sinew, b"GET /call/service/app/web/large/1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n", None))
    wait_until(lambda: sinew.descriptors() >= floor.fds + 3 * CLIENTS, "not all came in")
    wait_until(lambda: quick(sinew), "the peer has too much to do")  # with what they asked for
    load = Load(sinew, clients=4)
    wait_until(lambda: len(bodies.ended) == CLIENTS, "slow bodies hang: %d" % len(bodies.ended))
    if not SANITIZED:
        # 64 KiB for an answer nobody takes, and as much at most that was read from the peer.
        each = (sinew.memory_kb() - floor.kb) / CLIENTS
        print("%.0f KB for a client of each kind" % each, flush=True)
        assert each < 300
    wait_until(lambda: len(heads.ended) == CLIENTS, "slow heads hang: %d" % len(heads.ended))
    load.end()
    assert load.answered > 0 and load.slowest < 2 and not load.failed, (load.slowest, load.failed)
    for seconds, said in heads.ended.values():
        assert said.startswith(b"HTTP/1.1 408") and seconds > HEAD_TIMEOUT - 1, (seconds, said)
    for seconds, said in bodies.ended.values():
        assert said.startswith(b"HTTP/1.1 504"), (seconds, said)
    readers.stop()
    floor.after(descriptors_more=16)
