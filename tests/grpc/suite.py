# SPDX-License-Identifier: Apache-2.0
"""The cases, for each pair of a server and a client (a test file's PAIRS).

Names and contents of CASES up to timeout_on_sleeping_server are those of the gRPC project's
interop-test-descriptions.md; what follows is more of the same kind."""
import contextlib
import socket
import ssl
import threading

import pytest

from conftest import GOAWAY, HEADERS, PING, RST_STREAM, Client, Server, Tap

CASES = [
    "empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong",
    "empty_stream", "custom_metadata", "status_code_and_message", "special_status_message",
    "unimplemented_method", "unimplemented_service", "cancel_after_begin",
    "cancel_after_first_response", "timeout_on_sleeping_server",
    "half_duplex", "binary_metadata", "large_metadata", "every_status", "deadline_exceeded",
    "deadline_passed_on", "big_message", "request_too_large", "response_too_large",
    "compressed_too_large",
    "concurrent_unary", "concurrent_streams", "upload_much", "slow_reader", "error_details",
    "health_check",
]


@pytest.mark.parametrize("case", CASES)
def test_case(pair, case):
    pair.run(case)


# ---- compression: whether it happened is read off the wire ----

COMPRESSION = {  # case: (whose messages, compressed or not)
    "client_compressed_unary": (0, [1, 0]),
    "server_compressed_unary": (1, [1, 0]),
    "client_compressed_streaming": (0, [1, 0]),
    "server_compressed_streaming": (1, [1, 0]),
}


@pytest.mark.parametrize("case", COMPRESSION)
def test_compression(kinds, servers, things, case):
    side, wanted = COMPRESSION[case]
    if kinds[0] == "grpcjs" and side == 1:
        pytest.skip("servers of grpc-js never compress")
    server = servers(kinds[0])
    tap = things(Tap(server.port))
    things(Client(kinds[1], tap.address)).run(case)
    found = [m for c in tap.connections for m in c[side].messages()]
    assert [flag for flag, _ in found] == wanted
    assert found[0][1] < 2000 and found[1][1] > 27182
    # Nobody compresses what was not asked for.
    assert all(flag == 0 for c in tap.connections for flag, _ in c[1 - side].messages())


# ---- what the other side hears ----

def test_deadline_reaches_the_server(pair):
    pair.run("deadline_exceeded")
    pair.server.wait("cancelled UnaryCall", pair.since)


def test_cancel_reaches_the_server(kinds, servers, things):
    server = servers(kinds[0])
    since = server.mark()
    tap = things(Tap(server.port))
    client = things(Client(kinds[1], tap.address))
    client.begin("cancel_hanging")
    client.at("hanging")
    server.wait("hangs", since)
    client.say("end")
    client.finish()
    server.wait("cancelled UnaryCall", since)
    codes = [int.from_bytes(f[3], "big") for f in tap.connections[0][0].frames()
             if f[0] == RST_STREAM]
    assert codes == [8]  # CANCEL
    client.run("empty_unary")
    assert len(tap.connections) == 1


def test_one_connection(kinds, servers, things):
    """Sixty streams, ten messages each."""
    server = servers(kinds[0])
    tap = things(Tap(server.port))
    things(Client(kinds[1], tap.address)).run("concurrent_streams")
    assert len(tap.connections) == 1
    assert len({f[2] for f in tap.connections[0][0].frames() if f[0] == HEADERS}) == 60


def test_health_watch(kinds, servers, things):
    server = servers(kinds[0])
    client = things(Client(kinds[1], server.address))
    client.begin("health_watch")
    client.at("serving")
    server.say("serving grpc.testing.TestService 0")
    client.at("not-serving")
    server.say("serving grpc.testing.TestService 1")
    client.at("serving")
    client.finish()


def test_reflection(kinds, things, descriptors):
    if kinds[0] != "sinew" or kinds[1] == "sinew":
        pytest.skip("our server's reflection by their clients")
    server = things(Server("sinew", more=["--descriptors=" + descriptors]))
    things(Client(kinds[1], server.address)).run("reflection")


# ---- connections that come and go ----

def test_restart_while_calling(kinds, things):
    """The server drains (GOAWAY) and another one listens where it did: no call is lost."""
    if kinds[0] == "grpcio":
        pytest.skip("servers of grpcio cancel calls when they are stopped")
    server = things(Server(kinds[0]))
    client = things(Client(kinds[1], server.address))
    for _ in range(2):  # not at once: clients send a call anew after a GOAWAY once (gRFC A6)
        client.begin("calls_all_the_time")
        client.at("running")
        server.restart()
        client.say("end")
        client.finish()


def test_goaway_while_calling(kinds, things):
    """Connections are let go (GOAWAY) when they are 200 ms old: no call is lost."""
    if kinds[0] == "sinew":
        pytest.skip("servers that have that option")
    server = things(Server(kinds[0], more=["--age=200"]))
    tap = things(Tap(server.port))
    client = things(Client(kinds[1], tap.address))
    client.begin("calls_all_the_time")
    client.at("running")
    tap.wait(lambda: tap.count(1, GOAWAY, 0) >= 3 and len(tap.connections) >= 4)
    client.say("end")
    client.finish()


def test_crash_while_calling(kinds, things):
    """The server is killed and another one started where it was: idempotent calls are repeated."""
    if kinds[1] != "sinew":
        pytest.skip("only our client repeats")
    server = Server(kinds[0])
    client = things(Client(kinds[1], server.address))
    client.begin("calls_all_the_time")
    client.at("running")
    server.kill()
    things(Server(kinds[0], server.address))
    client.say("end")
    client.finish()


def test_broken_connection(kinds, servers, things):
    """Both sides hear of it, and the next call has a new connection."""
    server = servers(kinds[0])
    since = server.mark()
    tap = things(Tap(server.port))
    client = things(Client(kinds[1], tap.address))
    client.begin("hold_until_broken")
    client.at("held")
    tap.cut()
    client.finish()
    if kinds[0] != "grpcio":  # it may tell the handler that the requests have ended
        server.wait("cancelled FullDuplexCall", since)
    client.run("large_unary")
    assert len(tap.connections) == 2


def test_nobody_listens(kinds, things):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # not listening, and nobody else's
        client = things(Client(kinds[1], "127.0.0.1:%d" % s.getsockname()[1]))
        client.run("unavailable")


# ---- keep-alive ----

ACK = 1


def test_server_pings(kinds, things):
    if kinds[0] != "sinew":
        pytest.skip("our server's pings")
    server = things(Server("sinew", more=["--ping=100"]))
    tap = things(Tap(server.port))
    client = things(Client(kinds[1], tap.address))
    client.begin("held_stream")
    client.at("held")
    tap.wait(lambda: tap.count(1, PING, 0) >= 3 and tap.count(0, PING, ACK) >= 2)
    client.say("end")
    client.finish()


def test_client_falls_silent(kinds, things):
    """Who does not answer PINGs is let go, with its calls."""
    if kinds[0] != "sinew":
        pytest.skip("our server's pings")
    server = things(Server("sinew", more=["--ping=100"]))
    tap = things(Tap(server.port))
    client = Client(kinds[1], tap.address)
    client.begin("held_stream")
    client.at("held")
    tap.hole()
    server.wait("cancelled FullDuplexCall")
    client.kill()


def test_client_pings(kinds, servers, things):
    if kinds[1] == "sinew" or kinds[0] != "sinew":
        pytest.skip("their clients' pings")
    server = servers("sinew")
    tap = things(Tap(server.port))
    client = things(Client(kinds[1], tap.address))
    client.begin("pings")
    client.at("held")
    tap.wait(lambda: tap.count(0, PING, 0) >= 3 and tap.count(1, PING, ACK) >= 3)
    client.say("end")
    client.finish()


# ---- TLS ----

def test_tls(kinds, things, certs):
    server = things(Server(kinds[0], cert=certs.cert, key=certs.key))
    client = things(Client(kinds[1], server.address, ca=certs.ca))
    for case in ("empty_unary", "large_unary", "ping_pong", "custom_metadata", "concurrent_unary",
                 "status_code_and_message", "upload_much"):
        client.run(case)


def test_tls_unknown_authority(kinds, things, certs):
    server = things(Server(kinds[0], cert=certs.cert, key=certs.key))
    things(Client(kinds[1], server.address, ca=certs.other)).run("unavailable")


def test_tls_client_certificate(kinds, things, certs):
    server = things(Server(kinds[0], cert=certs.cert, key=certs.key, ca=certs.ca))
    things(Client(kinds[1], server.address, ca=certs.ca, cert=certs.cert,
                  key=certs.key)).run("large_unary")
    things(Client(kinds[1], server.address, ca=certs.ca)).run("unavailable")


@contextlib.contextmanager
def tls_server(certs, protocols):
    """Says nothing behind the handshake; yields (port, what was offered and agreed)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.cert, certs.key)
    if protocols:
        context.set_alpn_protocols(protocols)
    agreed = []

    def accept(sock):
        while True:
            try:
                c, _ = sock.accept()
                with context.wrap_socket(c, server_side=True) as t:
                    agreed.append(t.selected_alpn_protocol())
                    t.recv(1000)
            except ssl.SSLError:
                pass
            except OSError:
                return
    with socket.create_server(("127.0.0.1", 0)) as sock:
        threading.Thread(target=accept, args=(sock,), daemon=True).start()
        yield sock.getsockname()[1], agreed
        sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("protocols", [None, ["http/1.1"]])
def test_tls_without_h2(kinds, things, certs, protocols):
    """A server that does not agree to "h2" is no server."""
    if kinds[1] != "sinew" or kinds[0] != "grpcio":
        pytest.skip("our client")
    with tls_server(certs, protocols) as (port, agreed):
        things(Client("sinew", "127.0.0.1:%d" % port, ca=certs.ca)).run("unavailable")


def test_tls_offers_h2(kinds, things, certs):
    if kinds[0] != "sinew" or kinds[1] != "grpcio":
        pytest.skip("our server")
    server = things(Server("sinew", cert=certs.cert, key=certs.key))
    context = ssl.create_default_context(cafile=certs.ca)
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", server.port)) as s, \
            context.wrap_socket(s, server_hostname="localhost") as t:
        assert t.selected_alpn_protocol() == "h2"


# ---- a server that asks another one ----

@pytest.fixture
def chain(kinds, things):
    """(last server, client): client -> our server -> server of the other kind."""
    if kinds[0] != "sinew":
        pytest.skip("our server in the middle")
    last = things(Server(kinds[1]))
    middle = things(Server("sinew", more=["--next=" + last.address]))
    return last, middle, kinds[1]


def test_deadline_goes_on(chain, things):
    last, middle, kind = chain
    things(Client(kind if kind != "sinew" else "grpcio", middle.address)).run("forwarded")


def test_cancel_goes_on(chain, things):
    last, middle, kind = chain
    client = things(Client(kind if kind != "sinew" else "grpcio", middle.address))
    client.begin("forwarded_cancel")
    client.at("hanging")
    last.wait("hangs")
    client.say("end")
    last.wait("cancelled UnaryCall")
    middle.wait("cancelled UnaryCall")
    client.finish()


# ---- the end ----

def test_peers_end_well(pair):
    """After all of test_case: no complaint, no leak."""
    pair.run("empty_unary")
    pair.end()
