#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A service in a process of its own, to be killed: peer.py HOST PORT. Prints its port.

GET /small/TEXT answers TEXT; GET /large/N answers N bytes of pattern(N); POST /sum answers the SHA-256
of the body. POST /api/v2/spans takes spans and counts them; GET /spans tells how many."""
import asyncio
import hashlib
import json
import sys

spans = 0


def pattern(n):
    return (b"%08x" % n * (n // 8 + 1))[:n]


async def body_of(reader, headers):
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            n = int((await reader.readline()).split(b";")[0], 16)
            body += await reader.readexactly(n)
            await reader.readline()
            if n == 0:
                return body
    return await reader.readexactly(int(headers.get("content-length", "0")))


def answer(method, path, body):
    global spans
    if method == "GET" and path.startswith("/small/"):
        return path[len("/small/"):].encode()
    if method == "GET" and path.startswith("/large/"):
        return pattern(int(path[len("/large/"):]))
    if method == "GET" and path == "/spans":
        return b"%d" % spans
    if method == "POST" and path == "/api/v2/spans":
        spans += len(json.loads(body))
        return b""
    return hashlib.sha256(body).hexdigest().encode()


async def serve(reader, writer):
    try:
        while True:
            line = await reader.readline()
            if not line:
                return
            method, path, _ = line.decode().split(" ", 2)
            headers = {}
            while True:
                line = (await reader.readline()).decode().strip()
                if not line:
                    break
                k, _, v = line.partition(":")
                headers[k.lower()] = v.strip()
            out = answer(method, path, await body_of(reader, headers))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(out) + out)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, ValueError):
        pass
    finally:
        writer.transport.abort()


async def main(host, port):
    server = await asyncio.start_server(serve, host, int(port), backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
