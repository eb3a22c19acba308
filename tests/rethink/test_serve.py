# SPDX-License-Identifier: Apache-2.0
"""`sinew registry serve` beyond the scenarios: settings, limits, TLS, what survives, what others see."""
import json
import os
import socket
import subprocess
import time
import urllib.parse

import pytest

from registry import BINARY, PATIENCE, Registry, until
from certs import authority, leaf  # by the path of registry.py

RAM = {"STORAGE_TYPE": "RAM"}
BODY = {"resources": ["chat"], "dataSchemes": ["comm"], "descriptor": "d", "expires": 60, "status": "live",
        "runtime": "r"}


def enc(text):
    return urllib.parse.quote(text, safe="")


def create(r, user, hyperty, **more):
    status, _, body = r.request("PUT", "/hyperty/user/%s/%s" % (enc(user), enc(hyperty)), dict(BODY, **more))
    assert (status, json.loads(body)) == (200, {"message": "Hyperty created"})


@pytest.fixture(scope="module")
def ram():
    r = Registry(env=dict(RAM, DOMAIN_ENV="DEVELOPMENT"))
    yield r
    r.stop()


# ---- settings ----

@pytest.mark.parametrize("section,env,said", [
    ({}, {"STORAGE_TYPE": "CASSANDRA"}, "no storage type `CASSANDRA`: it is memory (RAM), sqlite or postgres"),
    ({}, {"EXPIRES": "0"}, "EXPIRES=0: expected a whole number of seconds from 1"),
    ({}, {"EXPIRES": "soon"}, "EXPIRES=soon: expected a whole number of seconds"),
    ({}, {"KEYSTORE": "k.jks"}, "the key store k.jks is Java's and cannot be read"),
    ({"storage-type": "oracle"}, {}, "registry.storage-type: expected memory, RAM, sqlite or postgres"),
    ({"storage-type": "postgres"}, {}, "needs a url"),
    ({"load-balancer-ip": "nowhere"}, {}, "registry.load-balancer-ip must be an address"),
    ({"client-certificates": "writes"}, {}, "registry.client-certificates needs tls with cert, key and ca"),
    ({"expirez": 3}, {}, 'did you mean "expires"'),
])
def test_bad_settings_are_one_sentence(section, env, said):
    r = Registry(section, env, wait=False)
    assert r.p.wait(PATIENCE) == 2
    log = r.stop(check=False)
    assert said in log and len(log.strip().splitlines()) == 1


def test_without_its_database_it_is_not_ready():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        r = Registry({"storage-type": "postgres", "expires": 1,
                      "url": "postgresql://127.0.0.1:%d/x" % nobody.getsockname()[1]})
        until, says = time.monotonic() + PATIENCE, ""
        while "registry: the store is away: 127.0.0.1:" not in says:
            assert time.monotonic() < until, says
            says = subprocess.run(["curl", "-s", "--unix-socket", admin_of(r)[5:], "http://localhost/readyz"],
                                  capture_output=True, text=True, timeout=PATIENCE).stdout
            time.sleep(0.05)
        assert json.loads(says)["ready"] is False
        r.stop()


def test_with_nothing_set_it_is_sqlite_and_survives(tmp_path):
    state = str(tmp_path)
    r = Registry(state=state)
    create(r, "u/me", "h", guid="g")
    r.p.kill()  # what was acknowledged is there
    r.stop(check=False)
    assert os.path.exists(os.path.join(state, "sinew/domain-registry.db"))
    r = Registry(state=state)
    status, _, body = r.request("GET", "/hyperty/guid/g")
    assert status == 200 and json.loads(body)["h"]["userID"] == "u/me"
    assert json.loads(r.request("GET", "/live")[2]) == {
        "status": "up", "Storage_type": "SQLite", "Hyperties_stored": "1"}
    r.stop()


def test_sinew_run_serves_it_too():
    r = Registry(env=RAM)
    run = subprocess.Popen([BINARY, "run", r.file], env=dict(r.env, XDG_RUNTIME_DIR=r.dir + "/x"), cwd=r.dir,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert "in use" in run.communicate(timeout=PATIENCE)[1]  # both listen there
    r.p.terminate()
    assert r.p.wait(PATIENCE) == 0
    os.makedirs(r.dir + "/x")
    run = subprocess.Popen([BINARY, "run", r.file], env=dict(r.env, XDG_RUNTIME_DIR=r.dir + "/x"), cwd=r.dir,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert "admin API on" in run.stderr.readline()
    create(r, "u", "h")
    assert r.request("GET", "/hyperty/user/u")[0] == 200
    run.terminate()
    assert run.wait(PATIENCE) == 0
    run.stderr.close()
    r.stop(check=False)


# ---- limits and what is no HTTP of ours ----

def raw(r, data):
    with socket.create_connection(("127.0.0.1", r.port), PATIENCE) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        got = b""
        while True:
            piece = s.recv(65536)
            if not piece:
                return got
            got += piece


@pytest.mark.parametrize("path,status", [
    ("/hyperty/url/%00", 400), ("/hyperty/url/%", 400), ("/hyperty/url/%zz", 400), ("/hyperty/url/%ff", 400),
    ("/hyperty/url/%C3%28", 400), ("/hyperty/url/" + "x" * 2048, 404), ("/hyperty/url/" + "x" * 2049, 400),
    ("/hyperty/url/" + "%41" * 2048, 404), ("/" + "x" * 8191, 400), ("/" + "x" * 8192, 414),
    ("/" + "x" * 65536, 414), ("/hyperty//url/x", 404), ("/hyperty/url/x//", 404), ("///live", 404),
    ("/a/b/c/d/e/f/g/h", 404), ("/hyperty/user/u/hyperty?resources=%", 400),
], ids=lambda v: str(v)[:20])
def test_paths(ram, path, status):
    got = raw(ram, b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
    assert int(got.split()[1]) == status


@pytest.mark.parametrize("body", [
    '{"descriptor": 1, "descriptor": 2}', '{"a": 1, "\\u0061": 2}', "{" * 70, "[" * 70, '{"a":' * 70,
    '{"status": "\\u0000"}', '{"status": "\\ud800"}', b'{"status": "\xff"}', '{"resources": [null]}',
    '{"resources": [[]]}', json.dumps({"resources": ["x"] * 257}), "{}{}", "",
], ids=range(13))
def test_bodies_that_are_400(ram, body):
    for path in ("/hyperty/user/u/h", "/hyperty/url/h", "/dataobject/url/o", "/hyperty/dataobject/o"):
        status, headers, text = ram.request("PUT", path, body)
        assert (status, text) == (400, b"") and headers["Content-Type"] == "application/json"


def test_identifiers_in_bodies_are_bounded(ram):
    for member, path in (("guid", "/hyperty/url/h"), ("name", "/dataobject/url/o"), ("reporter", "/dataobject/url/o")):
        assert ram.request("PUT", path, {member: "x" * 2049})[0] == 400
        assert ram.request("PUT", path, {member: "x" * 2048})[0] == 404


def test_a_body_over_a_mebibyte_is_413(ram):
    body = json.dumps(dict(BODY, status="x" * (1 << 20)))
    assert ram.request("PUT", "/hyperty/user/u/big", body)[0] == 413
    body = json.dumps(dict(BODY, status="x" * ((1 << 20) - 200)))
    assert ram.request("PUT", "/hyperty/user/u/big", body)[0] == 200
    status, _, text = ram.request("GET", "/hyperty/url/big")
    assert status == 200 and len(json.loads(text)["status"]) == (1 << 20) - 200


def test_the_page_cannot_be_injected(ram):
    evil = "<script>alert(1)</script>\"'&"
    more = {k: evil for k in ("descriptor", "status", "runtime", "guid", "p2pRequester", "p2pHandler")}
    create(ram, evil, evil, resources=[evil], dataSchemes=[evil], **more)
    status, headers, page = ram.request("GET", "/live", headers={"Accept": "text/html"})
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    page = page.decode()
    assert "&lt;script&gt;" in page and "<script" not in page and "alert(1)</" not in page


def test_no_method_override_and_head(ram):
    create(ram, "o", "override")
    for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        assert ram.request("GET", "/hyperty/url/override", headers={name: "DELETE"})[0] == 200
        assert ram.request("POST", "/hyperty/user/o/override", BODY, headers={name: "PUT"})[0] == 404
    assert json.loads(ram.request("GET", "/hyperty/url/override")[2])["status"] == "live"


# ---- TLS ----

@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    d = tmp_path_factory.mktemp("pki")

    for ca in ("ca", "other"):
        authority(d, ca)
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        leaf(d, name, ca)
    return str(d)


def curl(pki, r, path, *args, who=None):
    cert = ["--cert", pki + "/%s.pem" % who, "--key", pki + "/%s.key" % who] if who else []
    p = subprocess.run(["curl", "-s", "-m", "20", "--cacert", pki + "/ca.pem", "-w", "\n%{http_code}"] + cert
                       + list(args) + [r.url + path], stdout=subprocess.PIPE, text=True)
    body, _, status = p.stdout.rpartition("\n")
    return int(status or 0), body


def tls_section(pki, who):
    return {"tls": {"cert": pki + "/server.pem", "key": pki + "/server.key", "ca": pki + "/ca.pem"},
            "client-certificates": who}


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_reads_open_writes_need_a_certificate(pki, version):
    r = Registry(tls_section(pki, "writes"), RAM, scheme="https")
    put = ("-X", "PUT", "-d", json.dumps(BODY), version)
    no = (401, '{"message":"Unauthorized."}')
    assert curl(pki, r, "/hyperty/user/u/h", *put) == no
    assert curl(pki, r, "/hyperty/user/u/h", "-X", "DELETE", version) == no
    assert curl(pki, r, "/hyperty/user/u/h", *put, who="client")[0] == 200
    assert curl(pki, r, "/hyperty/user/u/h", *put, who="stranger")[0] == 0  # refused in the handshake
    assert curl(pki, r, "/hyperty/url/h", version)[0] == 200
    assert curl(pki, r, "/hyperty/url/h", "-I", version)[0] == 200
    assert curl(pki, r, "/", "-D", "-", "-o", "/dev/null", version)[1].lower().find(
        "location: https://127.0.0.1:%d/live" % r.port) >= 0
    r.stop()


def test_everybody_needs_a_certificate(pki):
    r = Registry(tls_section(pki, "all"), RAM, scheme="https")
    assert curl(pki, r, "/live")[0] == 0
    assert curl(pki, r, "/live", who="stranger")[0] == 0
    assert curl(pki, r, "/live", who="client")[0] == 200
    r.stop()


# ---- what others see of it ----

def admin_of(r):
    return "unix:" + os.path.join(r.dir, "sinew/registry.sock")


def peers(r, user):
    p = subprocess.run([BINARY, "peers", "hyperty", user, "--admin", admin_of(r)], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=PATIENCE, cwd=r.dir)
    assert p.returncode == 0 or "there is no hyperty " + user in p.stderr
    return json.loads(p.stdout or "{}") or {}


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_hyperties_are_peers(storage):
    r = Registry({"catalog": True, "storage-type": storage, "expires": 1})
    user = "user://id.nimbus.example/marta.vidal"
    create(r, user, "hyperty://n/1", expires=60)
    create(r, user, "hyperty://n/2", expires=1)
    until(lambda: set(peers(r, user)) == {"hyperty://n/1", "hyperty://n/2"})
    assert peers(r, user)["hyperty://n/1"]["descriptor"] == "d"
    until(lambda: set(peers(r, user)) == {"hyperty://n/1"})  # it has expired
    path = "/hyperty/user/%s/%s" % (enc(user), enc("hyperty://n/1"))
    assert r.request("DELETE", path)[0] == 200
    until(lambda: peers(r, user) == {})
    assert r.request("PUT", "/hyperty/url/" + enc("hyperty://n/1"), {})[0] == 200
    until(lambda: set(peers(r, user)) == {"hyperty://n/1"})
    r.stop()


def test_metrics():
    r = Registry(env=dict(RAM, EXPIRES="1"))
    create(r, "u", "h", expires=0)
    r.request("GET", "/hyperty/user/u")

    def metrics():
        return subprocess.run(["curl", "-s", "--unix-socket", admin_of(r)[5:], "http://localhost/metrics"],
                              stdout=subprocess.PIPE, text=True).stdout

    text = metrics()
    assert 'sinew_domain_registry_requests_total{operation="create"} 1\n' in text
    assert 'sinew_domain_registry_requests_total{operation="get"} 1\n' in text
    until(lambda: "sinew_domain_registry_expired_total{} 1\n" in metrics())
    r.stop()
