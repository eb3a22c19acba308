# SPDX-License-Identifier: Apache-2.0
"""`sinew grpc` against servers that are not ours (grpcio, grpc-js) and against our own."""
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import grpc
import pytest

import cli_peer
from conftest import BUILD, HERE, PATIENCE, Lines, Server, javascript

BINARY = os.path.join(BUILD, "sinew")
ECHO = "test.cli.Echo"
SYMBOLS = ["list_services", "file_containing_symbol"]


def sinew(*args, stdin=None):
    return subprocess.run([BINARY, "grpc", *map(str, args)], input=stdin, text=True,
                          capture_output=True, timeout=PATIENCE * 2,
                          stdin=subprocess.DEVNULL if stdin is None else None)


def expect(r, code, out=None, err=None):
    assert r.returncode == code, (r.stdout[-2000:], r.stderr[-2000:])
    if out is not None:
        assert r.stdout == out
    if err is not None:
        assert err in r.stderr, r.stderr
    return r


def documents(r):
    return [json.loads(line) for line in r.stdout.splitlines()]


def call(server, method, *args, **kw):
    return sinew(server.address, "call", ECHO + "/" + method, *args, **kw)


@pytest.fixture(scope="module")
def fileset(tmp_path_factory):
    return cli_peer.generate(str(tmp_path_factory.mktemp("generated")))


@pytest.fixture(scope="module")
def server(fileset):
    s = cli_peer.Server()
    yield s
    s.stop()


@pytest.fixture
def serve(fileset):
    servers = []

    def start(**kw):
        servers.append(cli_peer.Server(**kw))
        return servers[-1]
    yield start
    for s in servers:
        s.stop()


# ---- list, describe ----

VERSIONS = [("v1", "v1alpha"), ("v1",), ("v1alpha",)]


@pytest.mark.parametrize("bare", [False, True], ids=["with-imports", "bare"])
@pytest.mark.parametrize("versions", VERSIONS, ids="-".join)
def test_versions_of_reflection(serve, versions, bare):
    s = serve(reflection=versions, bare=bare)
    expect(sinew(s.address, "list"), 0, ECHO + "\ngrpc.health.v1.Health\n")
    methods = "Unary Count Sum Talk Fail FailWith Large Metadata Sleep".split()
    expect(sinew(s.address, "list", ECHO), 0, "".join("%s/%s\n" % (ECHO, m) for m in methods))
    r = expect(call(s, "Unary", '{"point": {"x": -5}, "at": "2020-01-02T03:04:05Z"}'), 0)
    assert documents(r) == [{"point": {"x": -5}, "at": "2020-01-02T03:04:05Z"}]
    assert ("file_by_filename" in s.asked()) == bare
    if "v1" in versions and "v1alpha" in versions:
        assert s.reflection[1].asked == []


def test_describe(server):
    r = expect(sinew(server.address, "describe", ECHO), 0)
    assert "  rpc Talk(stream test.cli.Everything) returns (stream test.cli.Everything);" in r.stdout
    r = expect(sinew(server.address, "describe", "test.cli.Everything"), 0)
    for line in ("  map<string, test.cli.parts.Point> points = 8;", "  oneof choice {",
                 "  optional uint32 maybe = 17;", "  google.protobuf.Any any = 16;"):
        assert line in r.stdout.splitlines()
    r = expect(sinew(server.address, "describe", "test.cli.parts.Color"), 0)
    assert "  GREEN = 2;" in r.stdout.splitlines()
    for name in (ECHO + "/Sum", ECHO + ".Sum"):
        r = expect(sinew(server.address, "describe", name), 0)
        assert r.stdout.startswith("rpc Sum(stream test.cli.Number) returns (test.cli.Number);\n")
        assert "int64 value = 1;" in r.stdout
    r = expect(sinew(server.address, "describe", "test.cli.Number.value"), 0)
    assert r.stdout.startswith("message test.cli.Number {")
    expect(sinew(server.address, "describe", "test.cli.parts.RED"), 2, "", "value of an enum")
    expect(sinew(server.address, "describe", "test.cli.Ecko"), 2, "", "did you mean `%s`?" % ECHO)


def test_no_reflection_but_a_file(serve, fileset):
    s = serve(reflection=(), health=False)
    expect(sinew(s.address, "list"), 1, "", "--proto FILESET")
    expect(call(s, "Unary"), 1, "", "--proto FILESET")
    r = expect(sinew(s.address, "list", "--proto", fileset), 0)
    assert r.stdout.splitlines()[0] == ECHO
    expect(sinew(s.address, "list", ECHO, "--proto", fileset), 0)
    r = expect(call(s, "Unary", '{"text": "by file"}', "--proto", fileset), 0)
    assert documents(r) == [{"text": "by file"}]
    expect(call(s, "Unary", "--proto", "/nowhere"), 2, "", "/nowhere")
    expect(call(s, "Unary", "--proto", os.path.join(HERE, "cli.proto")), 2, "",
           "--descriptor_set_out")
    expect(sinew(s.address, "list", "test.cli.Eco", "--proto", fileset), 2, "", "did you mean")


def test_a_file_needs_no_server(fileset):
    expect(sinew("127.0.0.1:1", "list", "--proto", fileset), 0)
    expect(sinew("127.0.0.1:1", "describe", ECHO, "--proto", fileset), 0)


# ---- calls ----

EVERYTHING = {
    "text": "ü 日本 😈 \" \\ \u0001", "data": "AP8=", "bigNumber": "-9223372036854775808",
    "ratio": 0.1, "flag": True, "color": "GREEN", "numbers": [1, -2, 2147483647],
    "points": {"a": {"x": -1, "y": "18446744073709551615"}, "b": {}}, "name": "",
    "inner": {"inner": {"text": "deep"}}, "at": "2020-02-29T12:00:00.000000001Z", "took": "-1.500s",
    "extra": {"a": [1, None, True, {"b": "c"}]}, "note": "wrapped",
    "any": {"@type": "type.googleapis.com/test.cli.Number", "value": "7"}, "maybe": 0}


def test_everything_comes_back(server):
    r = expect(call(server, "Unary", json.dumps(EVERYTHING)), 0, None, "OK\n")
    assert documents(r) == [EVERYTHING]
    # Names as in the .proto, numbers as numbers.
    r = expect(call(server, "Unary", '{"big_number": 5, "color": 1}'), 0)
    assert documents(r) == [{"bigNumber": "5", "color": "RED"}]


def test_requests_from_anywhere(server, tmp_path):
    (tmp_path / "q.json").write_text('\n{"text":\n "from a file"}\n')
    assert documents(expect(call(server, "Unary", "@" + str(tmp_path / "q.json")), 0)) == [
        {"text": "from a file"}]
    assert documents(expect(call(server, "Unary", "-", stdin='{"text": "piped"}'), 0)) == [
        {"text": "piped"}]
    for r in (call(server, "Unary"), call(server, "Unary", "-", stdin=""),
              call(server, "Unary", "{}")):
        expect(r, 0, "{}\n")
    expect(call(server, "Unary", "@/nowhere"), 1, "", "No such file")
    # Other ways to write a method.
    expect(sinew(server.address, "call", "/%s/Unary" % ECHO), 0)
    expect(sinew(server.address, "call", ECHO + ".Unary"), 0)


def test_streams_of_answers(server):
    r = expect(call(server, "Count", '{"value": 5000}'), 0, None, "OK\n")
    assert [int(d.get("value", 0)) for d in documents(r)] == list(range(5000))
    expect(call(server, "Count"), 0, "", "OK\n")


@pytest.mark.parametrize("text,result", [
    ("", {}), ('{"value": 5}', {"value": "5"}), ('{"value":1}\n{"value":2}\n\n', {"value": "3"}),
    ('{"value":1}{"value":"2"} {"value":3}', {"value": "6"})])
def test_streams_of_requests(server, text, result):
    assert documents(expect(call(server, "Sum", "-", stdin=text), 0)) == [result]
    assert documents(expect(call(server, "Sum", text), 0)) == [result]


def test_long_streams_both_ways(server):
    text = "".join('{"text": "%s", "bigNumber": %d}\n' % ("x" * 1000, i) for i in range(5000))
    r = expect(call(server, "Talk", "-", stdin=text), 0, None, "OK\n")
    assert [int(d.get("bigNumber", 0)) for d in documents(r)] == list(range(5000))


def test_a_talk_goes_to_and_fro(server):
    p = subprocess.Popen([BINARY, "grpc", server.address, "call", ECHO + "/Talk", "-"], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for i in range(20):
        p.stdin.write('{"numbers": [%d]}\n' % i)
        p.stdin.flush()
        assert json.loads(p.stdout.readline()) == {"numbers": [i]}
    out, err = p.communicate(timeout=PATIENCE)
    assert (out, err, p.returncode) == ("", "OK\n", 0)


def test_one_who_does_not_read_holds_the_server_back(server):
    p = subprocess.Popen([BINARY, "grpc", server.address, "call", ECHO + "/Count",
                          '{"value": 100000}'], text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    assert p.stdout.readline() == "{}\n"
    # Not communicate(), which would miss what readline() has read ahead.
    out = p.stdout.read()
    assert (len(out.splitlines()), p.stderr.read(), p.wait(PATIENCE)) == (99999, "OK\n", 0)
    p.stdout.close()
    p.stderr.close()
    p = subprocess.Popen([BINARY, "grpc", server.address, "call", ECHO + "/Count",
                          '{"value": 100000000}'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.readline()
    p.stdout.close()  # and goes away
    assert p.wait(PATIENCE) == 1
    p.stderr.close()


def test_large_messages(server):
    r = expect(call(server, "Large", '{"value": 4194290}'), 0)
    assert len(base64.b64decode(documents(r)[0]["data"])) == 4194290
    expect(call(server, "Large", '{"value": 4194305}'), 5, "", "RESOURCE_EXHAUSTED")
    r = expect(call(server, "Large", '{"value": 20000000}', "--max-message", "32MiB"), 0)
    assert len(base64.b64decode(documents(r)[0]["data"])) == 20000000
    expect(call(server, "Large", '{"value": 2000}', "--max-message", "1KiB"), 5, "",
           "RESOURCE_EXHAUSTED")
    data = base64.b64encode(os.urandom(3 << 20)).decode()
    r = expect(call(server, "Unary", "-", stdin=json.dumps({"data": data})), 0)
    assert documents(r) == [{"data": data}]


def test_compressed_answers(serve):
    s = serve(compression=grpc.Compression.Gzip)
    expect(sinew(s.address, "describe", ECHO), 0)
    r = expect(call(s, "Large", '{"value": 3000000}', "-v"), 0, None, "grpc-encoding: gzip")
    assert len(base64.b64decode(documents(r)[0]["data"])) == 3000000
    # The limit is on what comes out.
    expect(call(s, "Large", '{"value": 3000000}', "--max-message", "1MiB"), 5, "",
           "RESOURCE_EXHAUSTED")
    r = expect(call(s, "Count", '{"value": 100}'), 0)
    assert len(documents(r)) == 100


def test_metadata(server):
    r = expect(call(server, "Metadata", "-H", "X-Name: some value", "-H", "x-bytes-bin: AP8",
                    "-H", "x-name:again", "-v"), 0)
    got = [(e["name"], base64.b64decode(e.get("value", "")))
           for e in documents(r)[0]["entry"] if e["name"].startswith("x-")]
    assert got == [("x-name", b"some value"), ("x-bytes-bin", b"\x00\xff"), ("x-name", b"again")]
    lines = r.stderr.splitlines()
    assert "sinew: header x-initial: first" in lines
    assert "sinew: trailer x-last-bin: AP8" in lines
    for wrong in ("nonsense", ": x", "x-a-bin: !", "grpc-timeout: 1S", ":path: /", "a b: c",
                  "x-name: ü"):
        expect(call(server, "Metadata", "-H", wrong), 2, "", "-H")


# ---- what goes wrong ----

def test_statuses_and_exit_codes(server):
    special = {4: 4, 7: 5, 8: 5, 16: 5}
    for code in grpc.StatusCode:
        number = code.value[0]
        if number == 0:
            continue
        r = call(server, "Fail", json.dumps({"code": number, "message": "warum? ä\n"}))
        expect(r, special.get(number, 1), "", "sinew: %s: warum? ä?\n" % code.name)


def test_details(server):
    details = [{"@type": "type.googleapis.com/test.cli.parts.Point", "x": 3}]
    r = call(server, "Fail", json.dumps({"code": 3, "message": "m", "details": details}))
    expect(r, 1, "", 'sinew: detail test.cli.parts.Point {"x":3}\n')
    # What everybody uses is known without the server; the unknown is named.
    info = b"\x0a\x04GONE\x12\x07example\x1a\x06\x0a\x01k\x12\x01v"
    status = cli_peer.message("test.cli.Failure")(code=5, message="not here")
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info)
    status.details.add(type_url="example.com/not.Known", value=b"abc")
    data = base64.b64encode(status.SerializeToString()).decode()
    r = call(server, "FailWith", json.dumps({"data": data}))
    expect(r, 1, "", 'sinew: NOT_FOUND: not here\n'
                     'sinew: detail google.rpc.ErrorInfo {"reason":"GONE","domain":"example",'
                     '"metadata":{"k":"v"}}\nsinew: detail not.Known, 3 bytes\n')


@pytest.mark.parametrize("args,why", [
    (["call", ECHO + "/Unry"], "no method `Unry` in test.cli.Echo; did you mean `Unary`?"),
    (["call", ECHO + "/unary"], "did you mean `Unary`?"),
    (["call", ECHO + "/Nothing"], "no method `Nothing`; `sinew grpc ADDR list test.cli.Echo`"),
    (["call", "Echo/Unary"], "did you mean `test.cli.Echo`?"),
    (["call", "other.Service/Unary"], "no service `other.Service`; `sinew grpc ADDR list`"),
    (["call", "Unary"], "a method is SERVICE/METHOD, not `Unary`"),
    (["call", ECHO + "/Unary", '{"txt": "a"}'], "text?"),
    (["call", ECHO + "/Unary", '{"text": 5}'], "field text: a string"),
    (["call", ECHO + "/Unary", '{"text": "a"'], "not JSON"),
    (["call", ECHO + "/Unary", '{} {}'], "takes one message"),
    (["call", ECHO + "/Unary", '{"color": "GREN"}'], "GREEN"),
    (["call", ECHO + "/Sum", '{"value": 1} {"value": "x"}'], "message 2: field value"),
    (["call"], "usage"), (["describe"], "usage"), (["list", "a", "b"], "usage"),
    (["health", "a", "b"], "usage"), (["lst"], "did you mean `list`?"),
    (["frobnicate"], "list, describe, call or health"),
    (["list", "--max-message", "much"], "--max-message"),
    (["list", "--timeout", "soon"], "--timeout"),
    (["list", "--insecure"], "https"), (["list", "--ca", "x"], "https"),
])
def test_mistakes_are_named(server, args, why):
    expect(sinew(server.address, *args), 2, "", why.replace("ADDR", server.address))


@pytest.mark.parametrize("address,why", [
    ("127.0.0.1", "the port is missing"), ("[::1]", "the port is missing"),
    ("127.0.0.1:70000", "port"), ("http://127.0.0.1:1/path", "host and port"),
    ("ws://127.0.0.1:1", "https:// and http://"), ("unix:", "Unix socket"),
])
def test_addresses_that_are_none(address, why):
    expect(sinew(address, "list"), 2, "", why)


def test_nobody_there(tmp_path):
    expect(sinew("127.0.0.1:1", "list"), 1, "", "refused")
    expect(sinew("unix:" + str(tmp_path / "none"), "list"), 1, "", "No such file")
    expect(sinew("nobody.invalid:1", "list"), 1, "", "name resolution failed")


def test_a_server_that_is_none(things):
    silent = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % silent.getsockname()[1]
    r = expect(sinew(address, "list", "--timeout", "300ms"), 4, "")
    assert "300 ms" in r.stderr
    silent.close()
    http = socket.create_server(("127.0.0.1", 0))

    def answer():
        c, _ = http.accept()
        c.recv(1000)
        c.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        time.sleep(0.1)
        c.close()
    threading.Thread(target=answer, daemon=True).start()
    expect(sinew("127.0.0.1:%d" % http.getsockname()[1], "list"), 1, "", "no HTTP/2 server")
    http.close()


def test_deadlines(server):
    begin = time.monotonic()
    expect(call(server, "Sleep", '{"value": 20000}', "--timeout", "300ms"), 4, "")
    assert time.monotonic() - begin < 10
    # Streams have no deadline unless they are given one.
    talk = subprocess.Popen([BINARY, "grpc", server.address, "call", ECHO + "/Talk", "-",
                             "--timeout", "500ms"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert talk.wait(PATIENCE) == 4
    talk.stdin.close()
    talk.stderr.close()


# ---- health ----

def test_health(serve):
    s = serve()
    expect(sinew(s.address, "health"), 0, "SERVING\n", "")
    expect(sinew(s.address, "health", ECHO), 0, "SERVING\n")
    expect(sinew(s.address, "health", "test.cli.Down"), 1, "NOT_SERVING\n")
    expect(sinew(s.address, "health", "nobody"), 1, "", "serves no `nobody`")
    s = serve(health=False)
    expect(sinew(s.address, "health"), 1, "", "no health service")


def test_health_is_watched(serve):
    s = serve()
    p = subprocess.Popen([BINARY, "grpc", s.address, "health", "new.Service", "--watch"], text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for state, name in ((None, "SERVICE_UNKNOWN"), (1, "SERVING"), (2, "NOT_SERVING"),
                        (0, "UNKNOWN")):
        if state is not None:
            s.health.states["new.Service"] = state
        assert p.stdout.readline() == name + "\n"
    p.send_signal(signal.SIGTERM)
    assert p.wait(PATIENCE) == -signal.SIGTERM
    p.stdout.close()
    p.stderr.close()


# ---- other ways to a server ----

def test_unix_socket(serve, tmp_path):
    s = serve(address="unix:" + str(tmp_path / "s"))
    expect(call(s, "Unary", '{"text": "unix"}'), 0, '{"text":"unix"}\n')


def test_tls(serve, certs):
    def read(path):
        with open(path, "rb") as f:
            return f.read()
    pair = [(read(certs.key), read(certs.cert))]
    s = serve(credentials=grpc.ssl_server_credentials(pair))
    for host in ("localhost", "127.0.0.1"):
        url = "https://%s:%d" % (host, s.port)
        expect(sinew(url, "health", "--ca", certs.ca), 0, "SERVING\n")
        expect(sinew(url, "list", "--insecure"), 0)
        expect(sinew(url, "health", "--ca", certs.other), 1, "", "certificate")
        expect(sinew(url, "health"), 1, "")
    expect(sinew(s.address, "health"), 1, "", "https://")  # plain, to a port with TLS
    expect(sinew("https://" + s.address, "health", "--ca", "/nowhere"), 2, "", "/nowhere")
    expect(sinew("https://" + s.address, "health", "--cert", certs.cert), 2, "", "--key")
    s = serve(credentials=grpc.ssl_server_credentials(pair, read(certs.ca), True))
    url = "https://localhost:%d" % s.port
    expect(sinew(url, "health", "--ca", certs.ca), 1, "")
    expect(sinew(url, "call", ECHO + "/Unary", '{"text": "known"}', "--ca", certs.ca, "--cert",
                 certs.cert, "--key", certs.key), 0, '{"text":"known"}\n')


# ---- our own server, and grpc-js ----

TEST = "grpc.testing.TestService"
OURS = [TEST, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection"]


def check_test_service(address, services):
    r = expect(sinew(address, "list"), 0)
    assert sorted(r.stdout.split()) == sorted(services)
    for name in services:
        expect(sinew(address, "describe", name), 0)
        expect(sinew(address, "list", name), 0)
    expect(sinew(address, "call", TEST + "/EmptyCall"), 0, "{}\n")
    r = expect(sinew(address, "call", TEST + "/UnaryCall",
                     '{"responseSize": 5, "payload": {"body": "AAAA"}}'), 0)
    assert documents(r) == [{"payload": {"body": "AAAAAAA="}}]
    r = expect(sinew(address, "call", TEST + "/StreamingOutputCall",
                     '{"responseParameters": [{"size": 1}, {"size": 2}, {"size": 3}]}'), 0)
    assert [d["payload"]["body"] for d in documents(r)] == ["AA==", "AAA=", "AAAA"]
    r = expect(sinew(address, "call", TEST + "/StreamingInputCall", "-",
                     stdin='{"payload": {"body": "AAAA"}}\n' * 4), 0)
    assert documents(r) == [{"aggregatedPayloadSize": 12}]
    r = expect(sinew(address, "call", TEST + "/FullDuplexCall",
                     '{"responseParameters": [{"size": 1}]}{"responseParameters": [{"size": 2}]}'),
               0)
    assert [d["payload"]["body"] for d in documents(r)] == ["AA==", "AAA="]
    expect(sinew(address, "call", TEST + "/UnaryCall",
                 '{"responseStatus": {"code": 2, "message": "test status message"}}'), 1, "",
           "UNKNOWN: test status message")
    expect(sinew(address, "call", TEST + "/UnimplementedCall"), 1, "", "UNIMPLEMENTED")


def test_our_server(things, descriptors):
    s = things(Server("sinew", more=["--descriptors=" + descriptors]))
    check_test_service(s.address, OURS)
    expect(sinew(s.address, "health"), 0, "SERVING\n")
    s.say("serving %s 0" % TEST)
    s.wait("done")
    expect(sinew(s.address, "health", TEST), 1, "NOT_SERVING\n")


def test_our_server_without_descriptors(things, descriptors):
    s = things(Server("sinew"))
    r = expect(sinew(s.address, "list"), 0)
    assert r.stdout.split() == OURS
    expect(sinew(s.address, "list", TEST), 2, "", "no descriptors")
    expect(sinew(s.address, "call", TEST + "/EmptyCall", "--proto", descriptors), 0, "{}\n")


def test_reflection_asked_by_grpcio(things, descriptors):
    """Our reflection service, and a client that is not ours."""
    s = things(Server("sinew", more=["--descriptors=" + descriptors]))
    with grpc.insecure_channel(s.address) as channel:
        for version in ("v1", "v1alpha"):
            package = "grpc.reflection." + version
            ask = cli_peer.message(package + ".ServerReflectionRequest")
            talk = channel.stream_stream(
                "/%s.ServerReflection/ServerReflectionInfo" % package, ask.SerializeToString,
                cli_peer.message(package + ".ServerReflectionResponse").FromString)
            answers = list(talk(iter([
                ask(list_services=""), ask(file_containing_symbol=TEST), ask(host="h"),
                ask(file_by_filename="grpc/testing/empty.proto"),
                ask(all_extension_numbers_of_type="grpc.testing.Empty")]), timeout=PATIENCE))
            assert [x.name for x in answers[0].list_services_response.service] == OURS
            files = [cli_peer.file_of(b) for b in
                     answers[1].file_descriptor_response.file_descriptor_proto]
            assert [f.name for f in files] == ["grpc/testing/test.proto", "grpc/testing/empty.proto",
                                               "grpc/testing/messages.proto"]
            assert answers[2].error_response.error_code == 3 and answers[2].valid_host == "h"
            assert len(answers[3].file_descriptor_response.file_descriptor_proto) == 1
            assert answers[4].all_extension_numbers_response.base_type_name == "grpc.testing.Empty"


def test_grpc_js(things, tmp_path):
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node or npm is missing")
    s = things(Lines(["node", os.path.join(HERE, "cli_reflect.js")],
                     {"NODE_PATH": javascript(), "NODE_OPTIONS": "--no-deprecation"}))
    address = "127.0.0.1:" + s.wait("port ").split()[1]
    r = expect(sinew(address, "list"), 0)
    assert TEST in r.stdout.split()
    r = expect(sinew(address, "describe", TEST), 0)
    assert "rpc FullDuplexCall(stream grpc.testing.StreamingOutputCallRequest)" in r.stdout
    r = expect(sinew(address, "call", TEST + "/UnaryCall", '{"responseSize": 5}'), 0)
    assert documents(r) == [{"payload": {"body": "AAAAAAA="}}]
    expect(sinew(address, "call", TEST + "/UnaryCal"), 2, "", "did you mean `UnaryCall`?")
