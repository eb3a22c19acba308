# SPDX-License-Identifier: Apache-2.0
"""A name server that is not ours (dnspython), on loopback: UDP and TCP on one port, a table that changes."""
import socket
import socketserver
import struct
import threading
import time

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SOA = "ns.example. hostmaster.example. 1 3600 600 86400 %d"
SILENT = object()


class NameServer:
    """zone[(name, type)] is (ttl, [text of a record, ...]), an rcode, or SILENT. Names that stand in no
    entry do not exist; others have nothing of the type. `negative_s`: how long "nothing" holds."""

    def __init__(self, port=0):
        self.zone = {}
        self.negative_s = 1
        self.truncate = False  # over UDP
        self.asked = []        # (monotonic time, name, type, "udp" or "tcp")
        self.lock = threading.Lock()
        outer = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                answer = outer._answer(data, "udp")
                if answer is not None:
                    sock.sendto(answer, self.client_address)

        class Tcp(socketserver.BaseRequestHandler):
            def handle(self):
                while True:
                    head = self._exactly(2)
                    if head is None:
                        return
                    answer = outer._answer(self._exactly(struct.unpack("!H", head)[0]), "tcp")
                    if answer is not None:
                        self.request.sendall(struct.pack("!H", len(answer)) + answer)

            def _exactly(self, n):
                data = b""
                while len(data) < n:
                    piece = self.request.recv(n - len(data))
                    if not piece:
                        return None
                    data += piece
                return data

        class TcpServer(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        while True:
            self.tcp = TcpServer(("127.0.0.1", port), Tcp)
            self.port = self.tcp.server_address[1]
            try:
                self.udp = socketserver.UDPServer(("127.0.0.1", self.port), Udp)
                break
            except OSError:
                self.tcp.server_close()
        for server in (self.tcp, self.udp):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def _answer(self, data, way):
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        with self.lock:
            self.asked.append((time.monotonic(), name, kind, way))
            found = self.zone.get((name, kind))
            exists = any(n == name for n, _ in self.zone)
            truncate = self.truncate and way == "udp"
            negative_s = self.negative_s
        if found is SILENT:
            return None
        answer = dns.message.make_response(query, recursion_available=True)
        if isinstance(found, int):
            answer.set_rcode(found)
        elif found is None:
            answer.set_rcode(dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)
            answer.authority.append(dns.rrset.from_text("example.", negative_s, "IN", "SOA",
                                                        SOA % negative_s))
        elif truncate:
            answer.flags |= dns.flags.TC
        else:
            ttl, records = found
            if records:
                answer.answer.append(dns.rrset.from_text_list(question.name, ttl, "IN", kind, records))
        return answer.to_wire()

    def set(self, name, kind, records, ttl=1):
        with self.lock:
            self.zone[name, kind] = (ttl, records) if isinstance(records, list) else records

    def drop(self, name, kind):
        with self.lock:
            self.zone.pop((name, kind), None)

    def count(self, name, kind, way=None):
        with self.lock:
            return sum(n == name and k == kind and way in (None, w) for _, n, k, w in self.asked)

    def stop(self):
        for server in (self.tcp, self.udp):
            server.shutdown()
            server.server_close()
