#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A service that counts: counter.py HOST PORT LOG. POST /count/ID writes the ID to LOG, then answers with it;
an ID that came before changes nothing but is written again, so that repetitions can be counted. What was
answered survives kill -9 of this process: the kernel has it."""
import asyncio
import os
import sys


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


async def serve(reader, writer, log):
    try:
        while True:
            head = await head_of(reader)
            if head is None:
                return
            method, path, headers = head
            await reader.readexactly(int(headers.get("content-length", "0")))
            status, body = "404 Not Found", b""
            if method == "POST" and path.startswith("/count/"):
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
    server = await asyncio.start_server(lambda r, w: serve(r, w, log), host, int(port), backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
