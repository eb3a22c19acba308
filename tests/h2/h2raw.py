# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 frames by hand (RFC 9113, RFC 7541), for ends that misbehave on purpose.

Nothing here keeps a rule of the protocol for its caller: what is asked for is sent. Blocking sockets;
every wait has an end.
"""
import contextlib
import os
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, \
    CONTINUATION = range(10)
FRAME_NAMES = ("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING",
               "GOAWAY", "WINDOW_UPDATE", "CONTINUATION")
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 1, 1, 4, 8, 32

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, \
    FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, \
    ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED = range(14)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, \
    MAX_HEADER_LIST_SIZE = range(1, 7)

# ---- frames ----


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """@length: what the header says, when it is to lie."""
    n = len(payload) if length is None else length
    return struct.pack(">BHBBI", n >> 16, n & 0xffff, kind, flags, stream) + payload


def settings(*pairs, ack=False):
    return frame(SETTINGS, ACK if ack else 0, 0, b"".join(struct.pack(">HI", *p) for p in pairs))


def headers(stream, block, end_stream=True, end_headers=True, flags=0):
    flags |= (END_STREAM if end_stream else 0) | (END_HEADERS if end_headers else 0)
    return frame(HEADERS, flags, stream, block)


def continuation(stream, block, end_headers=False):
    return frame(CONTINUATION, END_HEADERS if end_headers else 0, stream, block)


def data(stream, payload=b"", end_stream=False):
    return frame(DATA, END_STREAM if end_stream else 0, stream, payload)


def rst(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window(stream, add):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", add))


def ping(payload=b"12345678", ack=False):
    return frame(PING, ACK if ack else 0, 0, payload)


def priority(stream, depends=0, weight=15):
    return frame(PRIORITY, 0, stream, struct.pack(">IB", depends, weight))


def goaway(last, code=NO_ERROR, debug=b""):
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)


# ---- header blocks ----

STATIC = """:authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|
:status=200|:status=204|:status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|
accept-encoding=gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|
allow|authorization|cache-control|content-disposition|content-encoding|content-language|
content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|
if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|
max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|
set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"""
STATIC = [tuple((e.strip() + "=").split("=")[:2]) for e in STATIC.split("|")]

# Huffman codes are canonical: by length, then by symbol. Symbols longer than 15 bits are not read.
HUFFMAN_BY_LENGTH = {5: "012aceiost", 6: " %-./3456789=A_bdfghlmnpru",
                     7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz", 8: "&*,;XZ", 10: "!\"()?", 11: "'+|",
                     12: "#>", 13: "\0$@[]~", 14: "^}", 15: "<`{"}


def huffman_table():
    table, code, last = {}, 0, 0
    for length, symbols in sorted(HUFFMAN_BY_LENGTH.items()):
        code <<= length - last
        last = length
        for s in symbols:
            table[(length, code)] = s
            code += 1
    return table


HUFFMAN = huffman_table()


def integer(value, prefix, first=0):
    top = (1 << prefix) - 1
    if value < top:
        return bytes([first | value])
    out = bytearray([first | top])
    value -= top
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(s):
    s = s.encode() if isinstance(s, str) else s
    return integer(len(s), 7) + s


def literal(name, value, index=False):
    """One header in plain; with @index it enters the other side's table."""
    return (b"\x40" if index else b"\0") + string(name) + string(value)


def indexed(n):
    return integer(n, 7, 0x80)


def table_size(n):
    return integer(n, 5, 0x20)


def block(pairs):
    return b"".join(literal(n, v) for n, v in pairs)


def request(path="/hello", method="GET", authority="localhost", scheme="http", more=()):
    return block([(":method", method), (":scheme", scheme), (":authority", authority),
                  (":path", path), *more])


class Decoder:
    """Of the blocks one end sends."""

    def __init__(self):
        self.table, self.size, self.max = [], 0, 4096

    def decode(self, b):
        self.b, self.at = b, 0
        out = []
        while self.at < len(b):
            first = b[self.at]
            if first & 0x80:
                out.append(self.entry(self.integer(7)))
            elif first & 0xe0 == 0x20:
                self.max = self.integer(5)
                self.evict()
            else:
                index = first & 0x40
                n = self.integer(6 if index else 4)
                name = self.entry(n)[0] if n else self.string()
                value = self.string()
                out.append((name, value))
                if index:
                    self.table.insert(0, (name, value))
                    self.size += 32 + len(name) + len(value)
                    self.evict()
        return out

    def evict(self):
        while self.size > self.max:
            name, value = self.table.pop()
            self.size -= 32 + len(name) + len(value)

    def entry(self, n):
        return STATIC[n - 1] if n <= 61 else self.table[n - 62]

    def integer(self, prefix):
        top = (1 << prefix) - 1
        v = self.b[self.at] & top
        self.at += 1
        if v < top:
            return v
        shift = 0
        while True:
            c = self.b[self.at]
            self.at += 1
            v += (c & 127) << shift
            shift += 7
            if c < 128:
                return v

    def string(self):
        coded = self.b[self.at] & 0x80
        n = self.integer(7)
        raw = self.b[self.at:self.at + n]
        self.at += n
        if not coded:
            return raw.decode("latin-1")
        out, code, length = [], 0, 0
        for bit in "".join("{:08b}".format(c) for c in raw):
            code, length = code << 1 | int(bit), length + 1
            if (length, code) in HUFFMAN:
                out.append(HUFFMAN[(length, code)])
                code = length = 0
        return "".join(out)


# ---- connections ----

class Closed(Exception):
    """The other end closed: how it ended is in Conn.end."""


class Frame:
    def __init__(self, kind, flags, stream, payload):
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload

    def __repr__(self):
        name = FRAME_NAMES[self.kind] if self.kind < 10 else "TYPE%d" % self.kind
        return "%s/%d stream %d, %d bytes" % (name, self.flags, self.stream, len(self.payload))

    @property
    def code(self):
        """Of RST_STREAM and GOAWAY."""
        return struct.unpack(">I", self.payload[4:8] if self.kind == GOAWAY else self.payload)[0]

    @property
    def last(self):
        """Of GOAWAY."""
        return struct.unpack(">I", self.payload[:4])[0]

    @property
    def pairs(self):
        """Of SETTINGS."""
        return dict(struct.iter_unpack(">HI", self.payload))

    @property
    def content(self):
        """Of DATA and HEADERS, without padding and priority."""
        p = self.payload
        if self.flags & PADDED:
            p = p[1:len(p) - p[0]]
        return p[5:] if self.kind == HEADERS and self.flags & PRIORITY_FLAG else p


class Answer:
    """What came on a stream so far."""

    def __init__(self):
        self.heads, self.body, self.n, self.ended, self.reset = [], bytearray(), 0, False, None

    @property
    def status(self):
        return int(dict(self.heads[0])[":status"]) if self.heads else None

    @property
    def headers(self):
        return dict(self.heads[0]) if self.heads else {}

    @property
    def trailers(self):
        return dict(self.heads[-1]) if len(self.heads) > 1 else self.headers

    @property
    def over(self):
        return self.ended or self.reset is not None


class Conn:
    """One end. Answers are kept by stream; @auto acknowledges SETTINGS and PING and opens windows;
    "ack": no windows."""

    def __init__(self, sock, auto=True, keep=True):
        self.sock, self.auto, self.keep = sock, auto, keep
        sock.settimeout(10)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf, self.decoder, self.answers = bytearray(), Decoder(), {}
        self.goaways, self.settings, self.acks, self.pongs = [], {}, 0, 0
        self.seen = {}  # frames by kind
        self.end = None  # "EOF" or the error's name
        self.head, self.head_flags = None, 0
        self.opened = {}  # by WINDOW_UPDATE, a stream's and 0: the connection's
        self.sent = {}  # by send_body(), likewise
        self.late = None  # replies that wait while offer() sends
        self.requests = []  # HEADERS nobody has looked at; servers take from it
        self.next_id = 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, *frames):
        """Closed when the other end has gone."""
        try:
            self.sock.sendall(b"".join(frames))
        except socket.timeout:
            raise
        except OSError as e:
            self.end = self.end or type(e).__name__
            raise Closed(self.end)

    def offer(self, *frames, seconds=5.0):
        """Send as long as the other end reads, and read what it says meanwhile. False: it closed, or
        stopped reading for @seconds. What it had said before can then still be read()."""
        view = memoryview(b"".join(frames))
        end = time.monotonic() + seconds
        self.sock.setblocking(False)
        self.late = b""  # never into the middle of a frame
        try:
            while view:
                try:
                    n = self.sock.send(view[:1 << 18])
                    view = view[n:]
                    end = time.monotonic() + seconds
                except BlockingIOError:
                    if time.monotonic() > end:
                        return False
                    time.sleep(0.001)
                except OSError:
                    self.drain()
                    return False
                self.drain()
                if self.end or self.goaways and self.goaways[-1].code != NO_ERROR:
                    return False
            return True
        finally:
            late, self.late = self.late, None
            self.sock.settimeout(10)
            if late and not view and not self.end:
                with contextlib.suppress(OSError):
                    self.sock.sendall(late)

    def drain(self):
        """Whatever is there already."""
        timeout = self.sock.gettimeout()
        self.sock.setblocking(False)
        try:
            while True:
                piece = self.sock.recv(1 << 18)
                if not piece:
                    self.end = self.end or "EOF"
                    break
                self.buf += piece
        except BlockingIOError:
            pass
        except OSError as e:
            self.end = self.end or type(e).__name__
        self.sock.settimeout(timeout)
        while self.pop() is not None:
            pass

    def pop(self):
        """The next whole frame of what was read, or None."""
        if len(self.buf) < 9:
            return None
        high, low, kind, flags, stream = struct.unpack(">BHBBI", self.buf[:9])
        n = high << 16 | low
        if len(self.buf) < 9 + n:
            return None
        f = Frame(kind, flags, stream & 0x7fffffff, bytes(self.buf[9:9 + n]))
        del self.buf[:9 + n]
        self.note(f)
        return f

    def read(self, seconds=60.0):
        """The next frame. Closed at the end; socket.timeout."""
        end = time.monotonic() + seconds
        while True:
            f = self.pop()
            if f is not None:
                return f
            if self.end:
                raise Closed(self.end)
            left = end - time.monotonic()
            if left <= 0:
                raise socket.timeout()
            self.sock.settimeout(left)
            try:
                piece = self.sock.recv(1 << 18)
            except socket.timeout:
                raise
            except OSError as e:
                self.end = type(e).__name__
                continue
            if not piece:
                self.end = "EOF"
            self.buf += piece

    def note(self, f):
        self.seen[f.kind] = self.seen.get(f.kind, 0) + 1
        a = Answer()
        if f.kind in (HEADERS, CONTINUATION, DATA, RST_STREAM) and f.stream and self.keep:
            a = self.answers.setdefault(f.stream, a)
        reply = b""
        if f.kind == HEADERS:
            self.requests.append(f)
            self.head, self.head_flags = bytearray(f.content), f.flags
        elif f.kind == CONTINUATION and self.head is not None:
            self.head += f.payload
        elif f.kind == DATA:
            a.n += len(f.content)
            if a.n <= 1 << 24:
                a.body += f.content
            a.ended = a.ended or bool(f.flags & END_STREAM)
            if f.payload and self.auto != "ack":
                reply = window(0, len(f.payload))
                reply += b"" if a.ended else window(f.stream, len(f.payload))
        elif f.kind == RST_STREAM:
            a.reset = f.code
        elif f.kind == WINDOW_UPDATE:
            add = struct.unpack(">I", f.payload)[0]
            self.opened[f.stream] = self.opened.get(f.stream, 0) + add
        elif f.kind == GOAWAY:
            self.goaways.append(f)
        elif f.kind == SETTINGS and not f.flags & ACK:
            self.settings.update(f.pairs)
            reply = settings(ack=True)
        elif f.kind == SETTINGS:
            self.acks += 1
        elif f.kind == PING and not f.flags & ACK:
            reply = ping(f.payload, ack=True)
        elif f.kind == PING:
            self.pongs += 1
        if f.kind in (HEADERS, CONTINUATION) and f.flags & END_HEADERS and self.head is not None:
            a.heads.append(self.decoder.decode(bytes(self.head)))
            a.ended = a.ended or bool(self.head_flags & END_STREAM)
            self.head = None
        if reply and self.auto and self.late is not None:
            self.late += reply
        elif reply and self.auto and not self.end:
            with contextlib.suppress(OSError):
                self.sock.send(reply)

    def until(self, done, seconds=60.0):
        """Read until @done() holds: True; False at the end or when time is up."""
        end = time.monotonic() + seconds
        try:
            while not done():
                self.read(max(end - time.monotonic(), 0.001))
        except (Closed, socket.timeout):
            return bool(done())
        return True

    def answer(self, stream, seconds=60.0):
        self.until(lambda: stream in self.answers and self.answers[stream].over, seconds)
        return self.answers.get(stream) or Answer()

    def send_body(self, stream, body, end_stream=True, seconds=60.0):
        """As the windows allow, the other end's SETTINGS being known. False: it will not take it."""
        at = first = self.sent.get(stream, 0)
        end = time.monotonic() + seconds
        while at - first < len(body) and time.monotonic() < end:
            a = self.answers.get(stream)
            if a and a.reset is not None:
                return False
            piece = min(16384, len(body) - (at - first), self.room(stream))
            if piece <= 0:
                try:
                    self.read(end - time.monotonic())
                except (Closed, socket.timeout):
                    return False
                continue
            last = end_stream and at - first + piece == len(body)
            self.send(data(stream, body[at - first:at - first + piece], last))
            at += piece
            self.sent[stream] = at
            self.sent[0] = self.sent.get(0, 0) + piece
            self.drain()
        return at - first == len(body)

    def room(self, stream):
        """What may be sent on it by send_body()."""
        window = self.settings.get(INITIAL_WINDOW_SIZE, 65535)
        return min(65535 + self.opened.get(0, 0) - self.sent.get(0, 0),
                   window + self.opened.get(stream, 0) - self.sent.get(stream, 0))

    def ask(self, path="/hello", body=None, seconds=60.0, **kw):
        """A whole request; its Answer."""
        stream = self.next_id
        self.next_id += 2
        self.send(headers(stream, request(path, **kw), end_stream=body is None))
        if body is not None:
            self.send(data(stream, body, end_stream=True))
        return self.answer(stream, seconds)

    def verdict(self, seconds=60.0):
        """How the other end closed: the last GOAWAY's code, or "EOF", "ConnectionResetError"; None
        when it did not."""
        try:
            end = time.monotonic() + seconds
            while True:
                self.read(max(end - time.monotonic(), 0.001))
                if self.goaways and self.goaways[-1].code != NO_ERROR:
                    return self.goaways[-1].code
        except (Closed, socket.timeout):
            pass
        return self.goaways[-1].code if self.goaways else self.end


def connect(port, pairs=(), preface=PREFACE, auto=True, keep=True, host="127.0.0.1", buffers=None):
    """A client's connection with its preface sent. @buffers: bytes of the socket's receive buffer."""
    s = socket.socket()
    if buffers:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
    s.settimeout(10)
    s.connect((host, port))
    c = Conn(s, auto, keep)
    if preface is not None:
        c.send(preface, settings(*pairs))
    return c


# ---- the process under attack ----

class Usage:
    """Memory and descriptors of a process."""

    def __init__(self, pid):
        self.pid = pid

    @property
    def sanitized(self):
        """Shadow memory: its figures mean nothing."""
        return self.field("VmSize") > 1 << 40

    def field(self, name):
        with open("/proc/%d/status" % self.pid) as f:
            for line in f:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
        return 0

    @property
    def rss(self):
        return self.field("VmRSS")

    @property
    def peak(self):
        return self.field("VmHWM")

    def reset_peak(self):
        with contextlib.suppress(OSError), open("/proc/%d/clear_refs" % self.pid, "w") as f:
            f.write("5")

    @property
    def fds(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))
