# SPDX-License-Identifier: Apache-2.0
"""A registry that answers as it was told: one server on loopback, HTTP/1.1 with kept connections."""
import http.server
import json
import socket
import ssl
import threading


class Registry:
    """script: what comes next, in order: {"status", "body" or "raw_body", "headers"}, {"error":
    "closed" or "timeout"}, or a function of (method, path, body). Without one: 404. heard: what was asked."""

    def __init__(self, port=0, cert=None, ca=None):
        self.lock = threading.Condition()
        self.script, self.heard, self.connections, self.fallback = [], [], 0, None
        self.open, self.hold = set(), threading.Event()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args):
                pass

            def setup(self):
                super().setup()
                registry.open.add(self.connection)

            def finish(self):
                registry.open.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                with registry.lock:
                    registry.heard.append({"method": self.command, "path": self.path, "body": body,
                                           "headers": self.headers})
                    step = registry.script.pop(0) if registry.script else registry.fallback
                    registry.lock.notify_all()
                if callable(step):
                    step = step(self.command, self.path, body)
                self.reply(step or {"status": 404, "body": {"message": "Not Found"}})

            def reply(self, step):
                if step.get("error") == "timeout":
                    registry.hold.wait(30)
                if step.get("error"):
                    self.close_connection = True
                    return
                text = step["raw_body"].encode() if "raw_body" in step else \
                    json.dumps(step["body"]).encode()
                head = "HTTP/1.1 %d X\r\nContent-Length: %d\r\n" % (step["status"], len(text))
                for name, value in step.get("headers", {"Content-Type": "application/json"}).items():
                    head += "%s: %s\r\n" % (name, value)
                self.wfile.write(head.encode() + b"\r\n" + text)

            do_GET = do_PUT = do_DELETE = do_POST = answer

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

            def get_request(self):
                sock, addr = super().get_request()
                registry.connections += 1
                if registry.tls is not None:  # in the connection's own thread: at the first read
                    sock = registry.tls.wrap_socket(sock, server_side=True,
                                                    do_handshake_on_connect=False)
                return sock, addr

            def handle_error(self, *args):
                pass

        self.tls = None
        if cert:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(cert + ".pem", cert + ".key")
            if ca:
                self.tls.load_verify_locations(ca)
                self.tls.verify_mode = ssl.CERT_REQUIRED
        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = "%s://127.0.0.1:%d" % ("https" if cert else "http", self.port)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def expect(self, *steps):
        with self.lock:
            self.script, self.heard, self.connections = list(steps), [], 0

    def close(self):
        """The process dies: nobody listens, connections are reset."""
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()
        for sock in list(self.open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
