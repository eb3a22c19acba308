# SPDX-License-Identifier: Apache-2.0
"""The part of a Kubernetes API server that serves EndpointSlices, recorded from real ones: paged lists with
`continue`, watches as chunked lines, bookmarks, 410 Gone, Status objects, tokens that expire, TLS. What
goes wrong is told to it."""
import base64
import http.server
import json
import queue
import socket
import ssl
import threading
import time
import urllib.parse

LABEL = "kubernetes.io/service-name"


def endpoint(address, pod=None, **conditions):
    e = {"addresses": [address], "nodeName": "node-1", "zone": "eu-north-1a"}
    if "ready" not in conditions:
        conditions = dict({"ready": True, "serving": True, "terminating": False}, **conditions)
    e["conditions"] = {k: v for k, v in conditions.items() if v is not None}
    if pod is not None:
        e["targetRef"] = {"kind": "Pod", "namespace": "shop", "name": pod,
                          "uid": "8d0c6c2e-2d2a-4f4e-9f0d-" + pod[-12:]}
    return e


def port(number, name="http", protocol="TCP"):
    return {"name": name, "port": number, "protocol": protocol, "appProtocol": "http"}


class ApiServer:
    def __init__(self, tls=None, token=None, port=0):
        self.tls = tls          # (certificate, key) files
        self.token = token
        self.version = 1000
        self.oldest = 0         # versions before are gone
        self.slices = {}        # (namespace, name) -> object
        self.history = []       # (version, type, object)
        self.watchers = set()   # queues
        self.lists = []         # (namespace, query) of each
        self.watches = []
        self.answers = []       # statuses to give instead, one a request
        self.cut_lines = 0      # so many events are cut in the middle, and the connection with them
        self.pieces = 0         # bytes a chunk; 0: a line
        self.slow_s = 0         # before each answer
        self.page_max = 500
        self.old_pages = False  # `continue` tokens have expired
        self.limit_s = None     # a watch ends after so long at most
        self.unauthorized = 0
        self.lock = threading.RLock()
        self.port = port
        self.start()

    # ---- what there is ----

    def _object(self, namespace, service, name, endpoints, ports, family):
        return {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
                "metadata": {"name": name, "generateName": service + "-", "namespace": namespace,
                             "uid": "0b1f7c1a-87a4-4c0d-9a6a-000000000000",
                             "generation": 3, "creationTimestamp": "2026-11-20T08:00:00Z",
                             "labels": {"endpointslice.kubernetes.io/managed-by":
                                        "endpointslice-controller.k8s.io", LABEL: service},
                             "managedFields": [{"manager": "kube-controller-manager",
                                                "operation": "Update",
                                                "fieldsV1": {"f:addressType": {}}}]},
                "addressType": family, "endpoints": endpoints, "ports": ports}

    def _emit(self, kind, obj):
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        event = (self.version, kind, json.loads(json.dumps(obj)))
        self.history.append(event)
        for q in self.watchers:
            q.put(event)

    def put(self, name, endpoints, ports=None, service="web", namespace="shop", family="IPv4"):
        with self.lock:
            known = (namespace, name) in self.slices
            obj = self._object(namespace, service, name, endpoints,
                               [port(8080)] if ports is None else ports, family)
            self.slices[namespace, name] = obj
            self._emit("MODIFIED" if known else "ADDED", obj)

    def remove(self, name, namespace="shop"):
        with self.lock:
            self._emit("DELETED", self.slices.pop((namespace, name)))

    def bookmark(self):
        with self.lock:
            self.version += 1
            event = (self.version, "BOOKMARK",
                     {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
                      "metadata": {"resourceVersion": str(self.version),
                                   "creationTimestamp": None},
                      "addressType": "", "endpoints": None, "ports": None})
            for q in self.watchers:
                q.put(event)

    def forget(self):
        """Compaction: watches from before now get 410."""
        with self.lock:
            self.history.clear()
            self.version += 1
            self.oldest = self.version

    def gone(self):
        """Watches under way are told that their version is too old."""
        with self.lock:
            self.forget()
            for q in self.watchers:
                q.put((self.version, "ERROR", self.status(410, "Expired", "too old resource version")))

    def end_watches(self):
        with self.lock:
            for q in self.watchers:
                q.put(None)

    @staticmethod
    def status(code, reason, message):
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": message, "reason": reason, "code": code}

    # ---- how it is served ----

    def start(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                try:
                    outer._serve(self)
                except (ConnectionError, ssl.SSLError):
                    self.close_connection = True

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass

            def process_request(self, request, client_address):
                outer.connections.append(request)
                super().process_request(request, client_address)

        self.connections = []
        self.server = Server(("127.0.0.1", self.port), Handler)
        if self.tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        """As a process ends: no listener, and every connection breaks."""
        self.server.shutdown()
        self.server.server_close()
        for c in self.connections:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # has ended before
        self.end_watches()

    @property
    def url(self):
        return "%s://127.0.0.1:%d" % ("https" if self.tls else "http", self.port)

    def _serve(self, h):
        path, _, query = h.path.partition("?")
        query = {k: v[0] for k, v in urllib.parse.parse_qs(query).items()}
        parts = path.strip("/").split("/")
        if self.slow_s:
            time.sleep(self.slow_s)
        if self.token is not None and h.headers.get("Authorization") != "Bearer " + self.token:
            self.unauthorized += 1
            return self._status(h, 401, "Unauthorized", "Unauthorized")
        with self.lock:
            answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            return self._status(h, answer, "InternalError", "as told: %d" % answer)
        if parts[:4] != ["apis", "discovery.k8s.io", "v1", "namespaces"] or len(parts) != 6 or \
                parts[5] != "endpointslices":
            return self._status(h, 404, "NotFound", "the server could not find the requested resource")
        key, _, service = query.get("labelSelector", "").partition("=")
        assert key == LABEL, query
        if query.get("watch") in ("1", "true"):
            self._watch(h, parts[4], service, query)
        else:
            self._list(h, parts[4], service, query)

    @staticmethod
    def _reply(h, code, body):
        body = json.dumps(body).encode() + b"\n"
        h.send_response(code)
        h.send_header("Content-Type", "application/json")
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        h.wfile.write(body)

    def _status(self, h, code, reason, message):
        self._reply(h, code, self.status(code, reason, message))

    def _list(self, h, namespace, service, query):
        with self.lock:
            self.lists.append((namespace, query))
            version, begin = self.version, 0
            if "continue" in query:
                if self.old_pages:
                    return self._status(h, 410, "Expired", "The provided continue parameter is too old")
                version, begin = json.loads(base64.b64decode(query["continue"]))
            items = [o for (n, _), o in sorted(self.slices.items())
                     if n == namespace and o["metadata"]["labels"][LABEL] == service]
            limit = min(int(query.get("limit", 500)), self.page_max)
            meta = {"resourceVersion": str(version)}
            if begin + limit < len(items):
                meta["continue"] = base64.b64encode(json.dumps([version, begin + limit]).encode()).decode()
                meta["remainingItemCount"] = len(items) - begin - limit
            body = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
                    "metadata": meta, "items": [{k: v for k, v in o.items() if k not in
                                                 ("kind", "apiVersion")}
                                                for o in items[begin:begin + limit]]}
        self._reply(h, 200, body)

    def _watch(self, h, namespace, service, query):
        since = int(query["resourceVersion"])
        q = queue.Queue()
        with self.lock:
            self.watches.append((namespace, query))
            if since < self.oldest:
                return self._status(h, 410, "Expired", "too old resource version: %d (%d)" %
                                    (since, self.oldest))
            for event in self.history:
                if event[0] > since:
                    q.put(event)
            self.watchers.add(q)
        h.send_response(200)
        h.send_header("Content-Type", "application/json")
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        h.wfile.flush()
        end = time.monotonic() + min(float(query.get("timeoutSeconds", 1800)),
                                     self.limit_s or 1e9)
        try:
            while self._events(h, q, namespace, service, end):
                pass
        finally:
            with self.lock:
                self.watchers.discard(q)

    def _events(self, h, q, namespace, service, end):
        try:
            event = q.get(timeout=max(0.01, end - time.monotonic()))
        except queue.Empty:
            event = None
        if event is None:
            h.wfile.write(b"0\r\n\r\n")
            return False
        _, kind, obj = event
        meta = obj["metadata"]
        if kind in ("ADDED", "MODIFIED", "DELETED") and (
                meta["namespace"] != namespace or meta["labels"][LABEL] != service):
            return True
        line = json.dumps({"type": kind, "object": obj}).encode() + b"\n"
        with self.lock:
            cut = self.cut_lines > 0
            self.cut_lines -= cut
        if cut:
            line = line[:len(line) // 2]
        n = self.pieces or len(line)
        for i in range(0, len(line), n):
            piece = line[i:i + n]
            h.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        h.wfile.flush()
        if cut:
            h.close_connection = True
            h.connection.close()
            return False
        if kind == "ERROR":
            h.wfile.write(b"0\r\n\r\n")
            return False
        return True
