#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A service that counts: counter.py HOST PORT LOG. POST /count/ID writes the ID to LOG, then answers with it;
an ID that came before changes nothing but is written again, so that repetitions can be counted. What was
answered survives kill -9 of this process: the kernel has it. GET /healthz says how it is. SIGUSR1 makes it
unwell: it answers 503; SIGUSR2: it does not answer; SIGHUP: it is well again. When it was asked to count
meanwhile stands in LOG.unwell: MS ID."""
import asyncio
import os
import signal
import sys
import time

HOW = {"well": signal.SIGHUP, "answers 503": signal.SIGUSR1, "hangs": signal.SIGUSR2}


class Mood:
    """How it is, and since when it is well."""

    def __init__(self, path):
        self.how, self.well, self.path = "well", asyncio.Event(), path
        for how, number in HOW.items():
            asyncio.get_running_loop().add_signal_handler(number, self.become, how)

    def become(self, how):
        self.how = how
        if how == "well":
            self.well.set()
        else:
            self.well.clear()

    async def spoils(self, path):
        """Whether the answer to @path is 503."""
        if self.how != "well" and path.startswith("/count/"):
            with open(self.path, "a") as f:
                f.write("%d %s\n" % (time.monotonic() * 1000, path[len("/count/"):]))
        if self.how == "hangs":
            await self.well.wait()
        return self.how != "well"


async def head_of(reader):
    """(method, path, headers), or None at the end."""
    line = await reader.readline()
    if not line:
        return None
    method, path, _ = line.decode().split(" ", 2)
    headers = {}
    while True:
        line = (await reader.readline()).decode().strip()
        if not line:
            return method, path, headers
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()


async def serve(reader, writer, log, mood):
    try:
        while True:
            head = await head_of(reader)
            if head is None:
                return
            method, path, headers = head
            await reader.readexactly(int(headers.get("content-length", "0")))
            status, body = "404 Not Found", b""
            if await mood.spoils(path):
                status = "503 Service Unavailable"
            elif path == "/healthz":
                status = "200 OK"
            elif method == "POST" and path.startswith("/count/"):
                status, body = "200 OK", path[len("/count/"):].encode()
                os.write(log, body + b"\n")
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)) + body)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, ValueError):
        pass
    finally:
        writer.transport.abort()


async def main(host, port, path):
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    mood = Mood(path + ".unwell")
    server = await asyncio.start_server(lambda r, w: serve(r, w, log, mood), host, int(port), backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
