#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A bad line between sinew and its peers, in a process of its own. It is told what to do by lines of
JSON on stdin and answers "ok"; it ends with stdin.

    wire.py packets FD FD   between two TUN devices, packet by packet, what tc netem does: each is
                            delayed by delay_ms +- jitter_ms, lost with probability loss, with
                            probability reorder sent at once (ahead of those that wait); cut: all lost
    wire.py stream          the same as far as it can be had without a kernel's help: TCP connections
                            from {"listen": [host, port]} to there, in pieces of at most one segment.
                            A lost piece comes after a retransmission's time (200 ms), and so does all
                            behind it; a reordered one makes a gap of that delay, behind which what was
                            held back comes in one burst; cut: nothing moves and new connections hang;
                            {"drop": true} breaks every connection, once
"""
import asyncio
import heapq
import json
import os
import random
import select
import sys
import time

SEGMENT = 1400
RETRANSMISSION = 0.2
AHEAD = 64 * 1024  # bytes that may be under way in one direction

state = {"delay_ms": 0, "jitter_ms": 0, "loss": 0, "reorder": 0, "cut": False}
rng = random.Random(int(os.environ.get("SINEW_SEED", "1")))


def delay():
    return max(0.0, state["delay_ms"] + rng.uniform(-1, 1) * state["jitter_ms"]) / 1000


def packets(fds):
    other = {fds[0]: fds[1], fds[1]: fds[0]}
    waiting = []  # heap of (due, number, fd, packet)
    last = {fd: 0.0 for fd in fds}
    number = 0
    pending = b""
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, fd, packet = heapq.heappop(waiting)
            try:
                os.write(fd, packet)
            except OSError:
                pass  # the other end is gone, or its queue is full: lost
        timeout = max(0.0, waiting[0][0] - now) if waiting else None
        ready, _, _ = select.select([0, *fds], [], [], timeout)
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            pending += data
            while b"\n" in pending:
                line, pending = pending.split(b"\n", 1)
                state.update(json.loads(line))
                print("ok", flush=True)
        for fd in ready:
            if fd == 0:
                continue
            packet = os.read(fd, 65536)
            if state["cut"] or rng.random() < state["loss"]:
                continue
            due = time.monotonic()
            if rng.random() >= state["reorder"]:
                due = last[fd] = max(due + delay(), last[fd])  # in order among themselves
            number += 1
            heapq.heappush(waiting, (due, number, other[fd], packet))


async def uncut():
    while state["cut"]:
        await asyncio.sleep(0.01)


async def pump(reader, writer):
    """One direction of one connection."""
    queue = asyncio.Queue(max(1, AHEAD // SEGMENT))

    async def take():
        last = 0.0
        while True:
            piece = await reader.read(SEGMENT)
            due = time.monotonic() + delay()
            if rng.random() < state["loss"]:
                due += RETRANSMISSION
            if rng.random() < state["reorder"]:
                due += max(delay(), 0.005)
            last = max(last, due)
            await queue.put((last, piece))
            if not piece:
                return
    task = asyncio.ensure_future(take())
    try:
        while True:
            due, piece = await queue.get()
            left = due - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
            await uncut()
            if not piece:
                writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()
    finally:
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, OSError):
            pass


connections = set()  # the loop itself does not keep them from the collector of garbage


async def connection(to, reader, writer):
    connections.add(asyncio.current_task())
    far, both = None, []
    try:
        await uncut()
        await asyncio.sleep(2 * delay())  # the handshake's
        far_reader, far = await asyncio.open_connection(*to, limit=AHEAD)
        both = [asyncio.ensure_future(pump(reader, far)), asyncio.ensure_future(pump(far_reader, writer))]
        done, rest = await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        for t in rest:
            t.cancel()
        await asyncio.gather(*both, return_exceptions=True)
    except (OSError, asyncio.CancelledError):
        for t in both:
            t.cancel()
    finally:
        connections.discard(asyncio.current_task())
        for w in (writer, far):
            if w is not None:
                w.transport.abort()


async def streams():
    loop = asyncio.get_running_loop()
    servers = []
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while True:
        line = await orders.readline()
        if not line:
            os._exit(0)  # whatever is under way
        order = json.loads(line)
        if "listen" in order:
            to = order["listen"]
            servers.append(await asyncio.start_server(
                lambda r, w, to=to: connection(to, r, w), "127.0.0.1", 0, limit=AHEAD, backlog=512))
            print(servers[-1].sockets[0].getsockname()[1], flush=True)
        elif "drop" in order:
            for task in list(connections):
                task.cancel()
            print("ok", flush=True)
        else:
            state.update(order)
            print("ok", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "packets":
        packets([int(fd) for fd in sys.argv[2:4]])
    else:
        asyncio.run(streams())
