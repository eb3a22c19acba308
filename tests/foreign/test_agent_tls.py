# SPDX-License-Identifier: Apache-2.0
"""`sinew agent` off loopback: TLS, client certificates and a token, asked for by python3-websockets
and Python's HTTP client, and by our own connector."""
import asyncio
import http.client
import json
import os
import ssl

import pytest
import websockets

from certs import authority, leaf
from conftest import PATIENCE, free_port, peers_message

TOKEN = "s3cret-token_0123"
DOC = peers_message(4000, 4001)


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """An authority, a server and a client of it."""
    d = str(tmp_path_factory.mktemp("certs"))

    authority(d)
    for name in ("server", "client"):
        leaf(d, name)
    return lambda name: os.path.join(d, name)


@pytest.fixture
def files(sinew, certs):
    (sinew.tmp / "mesh.json").write_text(json.dumps(DOC))
    (sinew.tmp / "token").write_text(TOKEN + "\n")
    return ["--mesh", "mesh.json", "--cert", certs("server.pem"), "--key", certs("server.key")]


@pytest.fixture
def agent_on_all(sinew):
    """As sinew.agent(), but not on loopback."""
    def start(*args):
        p = sinew.start("agent", "--listen", "0.0.0.0:0", *args)
        line = p.stderr.readline()
        assert "agent listens on " in line, line + p.stderr.read()
        return p, line.split("//")[0].split()[-1], int(line.rsplit(":", 1)[1].strip(" /\n"))
    return start


@pytest.fixture
def guarded(agent_on_all, files):
    """An agent on every address, with TLS and a token."""
    _, scheme, port = agent_on_all(*files, "--token", "token")
    assert scheme == "wss:"
    return port


def bearer(token=TOKEN):
    return {"Authorization": "Bearer " + token}


def context(certs, *client):
    c = ssl.create_default_context(cafile=certs("ca.pem"))
    if client:
        c.load_cert_chain(*client)
    return c


async def first_message(port, ctx, headers, host="localhost"):
    async with websockets.connect("wss://%s:%d/task-1" % (host, port), ssl=ctx,
                                  extra_headers=headers) as ws:
        return json.loads(await asyncio.wait_for(ws.recv(), PATIENCE))


def ask(port, ctx, method, path, body=None, headers=None):
    c = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE, context=ctx)
    c.request(method, path, body, headers or {})
    r = c.getresponse()
    data = r.read()
    c.close()
    return r.status, data, r.headers


def test_off_loopback_it_says_what_to_add(sinew, files):
    cert = files[2:]
    for args, words in (([], ("nothing is encrypted", "--cert FILE --key FILE, and --token", "--insecure")),
                        (["--token", "token"], ("nothing is encrypted", "add --cert FILE --key FILE;")),
                        (cert, ("anybody could connect", "add --token FILE or --ca FILE;")),
                        (cert[:2], ("--cert and --key go together",)),
                        (["--ca", cert[1]], ("--cert and --key",))):
        r = sinew.run("agent", "--listen", "0.0.0.0:0", *args, patience=20)
        assert r.returncode == 2 and r.stderr.count("\n") == 1, (args, r.stderr)
        assert all(w in r.stderr for w in words), (args, r.stderr)
    r = sinew.run("agent", "--listen", "127.0.0.1:0", "--cert", "none.pem", "--key", "none.pem", patience=20)
    assert r.returncode == 1 and "none.pem" in r.stderr


def test_insecure_is_an_answer(agent_on_all):
    _, scheme, port = agent_on_all("--insecure")
    assert scheme == "ws:"
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    c.request("GET", "/t", headers={"Host": "agent.example:1"})  # however it is called
    assert c.getresponse().read() == b"{}"
    c.request("GET", "/t", headers={"Origin": "http://evil.example"})
    assert c.getresponse().status == 403


def test_token_by_websocket_and_http(guarded, certs):
    ctx = context(certs)
    assert asyncio.run(first_message(guarded, ctx, bearer())) == DOC
    assert asyncio.run(first_message(guarded, ctx, bearer(), "127.0.0.1")) == DOC
    for headers in ({}, bearer(TOKEN[:-1]), bearer(TOKEN + "0"), bearer(""),
                    {"Authorization": "Basic " + TOKEN}):
        with pytest.raises(websockets.InvalidStatusCode) as e:
            asyncio.run(first_message(guarded, ctx, headers))
        assert e.value.status_code == 401
        status, _, got = ask(guarded, ctx, "GET", "/task-1", headers=headers)
        assert status == 401 and got["WWW-Authenticate"] == "Bearer"
        assert ask(guarded, ctx, "POST", "/report", b"[]", headers)[0] == 401
    report = json.dumps([{"id": "t2", "metadata": {"peers": {}}}]).encode()
    assert ask(guarded, ctx, "POST", "/report", report, bearer())[0] == 200
    status, data, _ = ask(guarded, ctx, "GET", "/t2", headers=bearer())
    assert status == 200 and json.loads(data)["peers"] == {}
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        asyncio.run(first_message(guarded, ssl.create_default_context(), bearer()))


def test_our_connector_has_token_and_authority(sinew, guarded, certs):
    url = "wss://localhost:%d/task-1" % guarded
    want = DOC["peers"]["service"]["basket"]["rest"]
    words = ("peers", "service", "basket", "rest")
    (sinew.tmp / "c.yaml").write_text(
        "agent: {url: '%s', token: '${file:token}', tls: {ca: '%s'}}\n" % (url, certs("ca.pem")))
    r = sinew.run("--config", "c.yaml", *words)
    assert r.returncode == 0 and json.loads(r.stdout) == want, r.stderr
    env = {"SINEW_AGENT_TOKEN": TOKEN, "SSL_CERT_FILE": certs("ca.pem")}
    r = sinew.run(*words, agent=url, env=env)
    assert r.returncode == 0 and json.loads(r.stdout) == want, r.stderr
    r = sinew.run("--agent", url, *words, env=env)
    assert r.returncode == 0 and json.loads(r.stdout) == want, r.stderr
    # What is missing is said.
    r = sinew.run("--timeout", "700ms", *words, agent=url, env=dict(env, SINEW_AGENT_TOKEN=""))
    assert r.returncode == 1 and "SINEW_AGENT_TOKEN" in r.stderr
    r = sinew.run("--timeout", "700ms", *words, agent=url, env=dict(env, SINEW_AGENT_TOKEN="x"))
    assert r.returncode == 1 and "does not know the token" in r.stderr
    r = sinew.run("--timeout", "700ms", *words, agent=url, env={"SINEW_AGENT_TOKEN": TOKEN})
    assert r.returncode == 1 and "certificate" in r.stderr
    r = sinew.run("--timeout", "700ms", *words, agent=url, env={"SINEW_AGENT_TOKEN": "two words"})
    assert r.returncode == 2 and "visible ASCII" in r.stderr


def test_client_certificates(sinew, agent_on_all, files, certs):
    _, _, port = agent_on_all(*files, "--ca", certs("ca.pem"))
    mine = (certs("client.pem"), certs("client.key"))
    assert asyncio.run(first_message(port, context(certs, *mine), {})) == DOC
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError, websockets.InvalidMessage)):
        asyncio.run(first_message(port, context(certs), {}))
    text = "agent: {url: 'wss://localhost:%d/t', tls: {ca: '%s'%s}}\n"
    words = ("--config", "c.yaml", "--timeout", "1s", "peers", "service", "basket", "rest")
    (sinew.tmp / "c.yaml").write_text(
        text % (port, certs("ca.pem"), ", cert: '%s', key: '%s'" % mine))
    r = sinew.run(*words)
    assert json.loads(r.stdout) == DOC["peers"]["service"]["basket"]["rest"], r.stderr
    (sinew.tmp / "c.yaml").write_text(text % (port, certs("ca.pem"), ""))
    assert sinew.run(*words).returncode == 1


def test_hub_that_asks_for_token_and_certificate(sinew, files, certs):
    registry, node = free_port(), free_port()
    (sinew.tmp / "hub.yaml").write_text(json.dumps({"hub": {
        "registry": "127.0.0.1:%d" % registry, "broker": {"listen": "off"}, "token": TOKEN,
        "tls": {"ca": certs("ca.pem"), "cert": certs("server.pem"), "key": certs("server.key")}}}))
    sinew.start("--config", "hub.yaml", "hub")
    mesh = ["--token", "token", "--ca", certs("ca.pem"), "--cert", certs("client.pem"), "--key",
            certs("client.key")]
    sinew.start("node", "lamp/hall", "--listen", "127.0.0.1:%d" % node, "--registry",
                "127.0.0.1:%d" % registry, *mesh)
    _, port = sinew.agent("--hub", "127.0.0.1:%d" % registry, "--hub-token", "token", "--hub-ca",
                          certs("ca.pem"), "--cert", certs("client.pem"), "--key",
                          certs("client.key"))
    w = sinew.watch("peers", "service", "lamp/hall", "--watch", agent="wss://localhost:%d/t" % port,
                    env={"SSL_CERT_FILE": certs("ca.pem")})
    while True:
        line = w.next()
        peers = line.get("peers", line) if line else None
        if peers:
            break
    assert "%d" % node in json.dumps(peers)
