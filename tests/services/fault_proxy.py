# SPDX-License-Identifier: Apache-2.0
"""A proxy before an AWS service that does what a test tells it: checks signatures (dynalite and
kinesalite do not), answers errors instead of the service, cuts connections, has a wrong clock."""
import calendar
import hashlib
import hmac
import http.client
import http.server
import json
import socket
import threading
import time

# Errors as the services write them: name -> (status, namespace).
ERRORS = {
    "ProvisionedThroughputExceededException": (400, "com.amazonaws.dynamodb.v20120810"),
    "ThrottlingException": (400, "com.amazon.coral.availability"),
    "RequestLimitExceeded": (400, "com.amazonaws.dynamodb.v20120810"),
    "InternalServerError": (500, "com.amazonaws.dynamodb.v20120810"),
    "ServiceUnavailable": (503, "com.amazon.coral.availability"),
    "InvalidSignatureException": (400, "com.amazon.coral.service"),
    "UnrecognizedClientException": (400, "com.amazon.coral.service"),
}


def sign(secret, method, path, query, headers, body, signed, date, scope):
    """The signature of Signature Version 4, written from its description."""
    canonical = "\n".join([
        method, path, query,
        "".join("%s:%s\n" % (n, " ".join(headers[n].split())) for n in signed),
        ";".join(signed), hashlib.sha256(body).hexdigest()])
    text = "\n".join(["AWS4-HMAC-SHA256", date, "/".join(scope),
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class Fault:
    def __init__(self, what, count, op, at):
        self.what, self.left, self.op, self.at = what, count, op, at


class FaultProxy:
    """@target: "http://host:port" of the service. @secrets: {access key id: secret} to verify
    signatures with, None: no check. What came in stands in .seen: [(operation, params, headers)]."""

    def __init__(self, target, secrets=None, tokens=None):
        self.target = target.split("//")[1]
        self.secrets, self.tokens = secrets, tokens or {}
        self.clock = 0  # seconds our clock is before the real one
        self.faults, self.seen = [], []
        self.lock = threading.Condition()
        self.connections = set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            disable_nagle_algorithm = True  # head and body are written apart

            def setup(self):
                super().setup()
                with outer.lock:
                    outer.connections.add(self.connection)

            def finish(self):
                with outer.lock:
                    outer.connections.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.answer(self, body)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = "http://127.0.0.1:%d" % self.port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    # ---- what a test says ----

    def fault(self, what, count=1, op=None, at=0):
        """The next @count requests (of operation @op), after @at good ones, get @what: a name of
        ERRORS, "cut" (the request is read, the connection breaks), "cut-after" (the service has done
        it, the answer never leaves), "half" (half of the answer), "crc" (a wrong x-amz-crc32), "hang" (no answer until stop()), or a
        function(handler, op, params)."""
        with self.lock:
            self.faults.append(Fault(what, count, op, at))

    def operations(self):
        with self.lock:
            return [op for op, _, _ in self.seen]

    def wait_seen(self, n, patience=20):
        with self.lock:
            assert self.lock.wait_for(lambda: len(self.seen) >= n, patience), self.operations()

    def cut_all(self):
        with self.lock:
            for c in self.connections:
                try:
                    c.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.cut_all()

    # ---- what it does ----

    def _next(self, op):
        with self.lock:
            for f in self.faults:
                if f.left > 0 and f.op in (None, op):
                    if f.at > 0:
                        f.at -= 1
                        return None
                    f.left -= 1
                    return f.what
        return None

    def answer(self, h, body):
        op = (h.headers.get("X-Amz-Target") or ".").split(".")[1]
        params = json.loads(body or b"{}")
        with self.lock:
            self.seen.append((op, params, {k.lower(): v for k, v in h.headers.items()}))
            self.lock.notify_all()
        refused = self._verify(h, body) if self.secrets is not None else None
        if refused:
            return self.error(h, *refused)
        what = self._next(op)
        if callable(what):
            return what(h, op, params)
        if what in ERRORS:
            return self.error(h, what, "as the test wants")
        if what == "hang":
            h.connection.recv(1)
            what = "cut"
        if what == "cut":
            return self._break(h)
        status, headers, answer = self._forward(h, body)
        if what == "cut-after":
            return self._break(h)
        if what == "crc":
            headers["x-amz-crc32"] = "1"
        self.reply(h, status, answer, headers, half=what == "half")

    def _break(self, h):
        h.close_connection = True
        h.connection.shutdown(socket.SHUT_RDWR)

    def _forward(self, h, body):
        c = http.client.HTTPConnection(self.target, timeout=20)
        headers = {k: v for k, v in h.headers.items() if k.lower() not in ("connection",)}
        c.request("POST", h.path, body, headers)
        r = c.getresponse()
        answer = r.read()
        kept = {k: v for k, v in r.getheaders()
                if k.lower() in ("content-type", "x-amzn-requestid", "x-amz-crc32")}
        c.close()
        return r.status, kept, answer

    def reply(self, h, status, answer, headers=None, half=False):
        h.send_response_only(status)
        for name, value in (headers or {}).items():
            h.send_header(name, value)
        h.send_header("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT",
                                            time.gmtime(time.time() + self.clock)))
        h.send_header("Content-Length", str(len(answer)))
        h.end_headers()
        h.wfile.write(answer[:len(answer) // 2] if half else answer)
        h.wfile.flush()
        if half:
            self._break(h)

    def error(self, h, name, message):
        status, namespace = ERRORS[name]
        body = json.dumps({"__type": namespace + "#" + name, "message": message}).encode()
        self.reply(h, status, body, {"Content-Type": "application/x-amz-json-1.0",
                                     "x-amzn-RequestId": "FORCED%020d" % len(self.seen)})

    def _verify(self, h, body):
        """None, or (name, message) as the services say it."""
        headers = {k.lower(): v for k, v in h.headers.items()}
        try:
            kind, rest = headers["authorization"].split(" ", 1)
            assert kind == "AWS4-HMAC-SHA256"
            parts = dict(p.strip().split("=", 1) for p in rest.split(","))
            key, *scope = parts["Credential"].split("/")
            signed = parts["SignedHeaders"].split(";")
            date = headers["x-amz-date"]
        except (KeyError, ValueError, AssertionError):
            return "InvalidSignatureException", "no or malformed Authorization"
        if key not in self.secrets:
            return "UnrecognizedClientException", "The security token included in the request is invalid."
        if headers.get("x-amz-security-token") != self.tokens.get(key):
            return "UnrecognizedClientException", "The security token included in the request is invalid."
        if "host" not in signed or signed != sorted(signed) or scope[0] != date[:8]:
            return "InvalidSignatureException", "what must be signed is not"
        now = time.time() + self.clock
        sent = calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))
        if abs(now - sent) > 300:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
            how = "Signature expired: %s is now earlier than %s (%s - 5 min.)" if sent < now else \
                "Signature not yet current: %s is still later than %s (%s + 5 min.)"
            return "InvalidSignatureException", how % (date, stamp, stamp)
        path, _, query = h.path.partition("?")
        want = sign(self.secrets[key], h.command, path, query, headers, body, signed, date, scope)
        if not hmac.compare_digest(want, parts["Signature"]):
            return "InvalidSignatureException", \
                "The request signature we calculated does not match the signature you provided."
        return None
