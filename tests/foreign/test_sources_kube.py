# SPDX-License-Identifier: Apache-2.0
"""Endpoints whose instances come from a Kubernetes API server: what connectors of the agent see, exactly,
and that they never see less than there is."""
import os
import shutil
import subprocess
import time

import pytest

import certs
from conftest import PATIENCE, until
from kube_peer import ApiServer, endpoint, port as slice_port
from sources_site import Site

HERE = os.path.dirname(os.path.abspath(__file__))
node = shutil.which("node")


@pytest.fixture
def certificate(tmp_path):
    return lambda name: certs.alone(tmp_path, name, "kube-apiserver")


@pytest.fixture
def api(cleanup):
    server = ApiServer()
    cleanup(server)
    return server


@pytest.fixture
def by_kube(sinew, cleanup, api):
    return Site(sinew, cleanup, kubernetes={"server": api.url})


def pods(*numbers, **conditions):
    return [endpoint("10.2.0.%d" % n, "web-%d" % n, **conditions) for n in numbers]


def places(*numbers):
    return ["web-%d.shop=10.2.0.%d:8080" % (n, n) for n in numbers]


def test_kubernetes(by_kube, api):
    """Slices that come, change and go; pages; chunks cut anywhere; ports; both families."""
    api.page_max = 1
    api.put("web-a", pods(1, 2) + pods(3, ready=False))
    api.put("web-b", pods(4), ports=[slice_port(8080), slice_port(9000, "admin")])
    api.put("web-6", [endpoint("2001:db8::1", "web-1"), endpoint("2001:db8::9", "web-9")],
            family="IPv6")
    api.put("other", pods(7), service="other")
    api.put("elsewhere", pods(8), namespace="test")
    by_kube.write(web="k8s://shop/web:http", admin="k8s://shop/web:admin",
                  none="k8s://shop/nobody")
    c = by_kube.start()
    nine = "web-9.shop=[2001:db8::9]:8080"
    c.wait("web", *places(1, 2, 4), nine)
    c.wait("admin", "web-4.shop=10.2.0.4:9000")
    c.wait("none")
    assert len(api.lists) >= 3 * 2 + 1
    api.pieces = 7
    api.put("web-a", pods(2, 3) + pods(5, ready=None))
    c.wait("web", *places(2, 3, 4, 5), nine, "web-1.shop=[2001:db8::1]:8080")
    api.remove("web-6")
    c.wait("web", *places(2, 3, 4, 5))
    api.remove("web-b")
    c.wait("web", *places(2, 3, 5))
    c.wait("admin", "web-4.shop=10.2.0.4:9000")  # a slip with a port's name is not the end
    by_kube.said("k8s://shop/web:admin", "no TCP port `admin`, but `http`")
    # nothing is ready: what ends but serves; then nothing at all
    api.put("web-a", pods(2, ready=False, serving=True, terminating=True) + pods(3, ready=False))
    c.wait("web", *places(2))
    api.put("web-a", [])
    c.wait("web")


def test_what_goes_wrong_with_a_watch(by_kube, api):
    """Ended streams, bookmarks, 410, cut lines, 500: each change is seen, and nothing ever vanishes."""
    api.put("web-a", pods(1))
    by_kube.write(web="k8s://shop/web")
    c = by_kube.start()
    c.wait("web", *places(1))
    until(lambda: len(api.watchers) == 1)
    lists = len(api.lists)
    # a stream that ends is asked for again where it was
    api.bookmark()
    api.put("unrelated", [], service="other")
    version = api.version - 1  # of the bookmark
    time.sleep(0.1)            # so that the stream has it
    api.end_watches()
    until(lambda: len(api.watches) == 2 and len(api.watchers) == 1)
    assert api.watches[1][1]["resourceVersion"] == str(version)
    assert len(api.lists) == lists
    api.put("web-a", pods(1, 2))
    c.wait("web", *places(1, 2))
    # too old, told on the stream, and by the status
    api.gone()
    api.put("web-a", pods(1, 2, 3))
    c.wait("web", *places(1, 2, 3))
    assert len(api.lists) == lists + 1
    until(lambda: len(api.watchers) == 1)
    with api.lock:
        api.end_watches()
        api.put("web-a", pods(1, 2, 3, 4))
        api.forget()
    c.wait("web", *places(1, 2, 3, 4))
    # a line that is cut, and the connection with it
    until(lambda: len(api.watchers) == 1)
    api.cut_lines = 1
    api.put("web-a", pods(1, 2, 3, 4, 5))
    c.wait("web", *places(1, 2, 3, 4, 5))
    # refusals are told and tried again
    until(lambda: len(api.watchers) == 1)
    with api.lock:
        api.answers = [500, 503]
        api.end_watches()
    by_kube.said("k8s://shop/web", "the API server answers 50", "instances stay")
    by_kube.said("k8s://shop/web: it answers again")
    api.slow_s = 0.3
    api.put("web-a", pods(5))
    c.wait("web", *places(5))
    assert c.history("web") == [["10.2.0.%d:8080" % n for n in range(1, k + 1)]
                                for k in range(1, 6)] + [["10.2.0.5:8080"]]


def test_a_server_that_restarts(by_kube, api):
    api.put("web-a", pods(1, 2))
    by_kube.write(web="k8s://shop/web")
    c = by_kube.start()
    c.wait("web", *places(1, 2))
    api.stop()
    by_kube.said("k8s://shop/web", "does not answer", "instances stay")
    by_kube.write(web="k8s://shop/web", other={"instances": ["127.0.0.1:1"]})
    c.wait("other", "1=127.0.0.1:1")  # the file was read again in between
    api.put("web-a", pods(2, 3))
    api.start()
    c.wait("web", *places(2, 3))
    by_kube.said("k8s://shop/web: it answers again")
    # from a backup: versions that this server does not know
    until(lambda: len(api.watchers) == 1)
    with api.lock:
        api.answers = [504]
        api.end_watches()
        api.put("web-a", pods(3))
    c.wait("web", *places(3))
    assert c.history("web") == [["10.2.0.1:8080", "10.2.0.2:8080"],
                                ["10.2.0.2:8080", "10.2.0.3:8080"], ["10.2.0.3:8080"]]


def test_as_a_pod_finds_it(sinew, cleanup, certificate, tmp_path):
    """TLS with the cluster's own root, a token that is renewed and must not show."""
    cert, key = certificate("api")
    api = ApiServer(tls=(cert, key), token="first-secret-token")
    cleanup(api)
    (tmp_path / "token").write_text("first-secret-token\n")
    api.put("web-a", pods(1))
    site = Site(sinew, cleanup, kubernetes={"ca": cert, "token_file": str(tmp_path / "token")})
    site.write(web="k8s://shop/web")
    c = site.start(env={"KUBERNETES_SERVICE_HOST": "127.0.0.1",
                        "KUBERNETES_SERVICE_PORT": str(api.port)})
    c.wait("web", *places(1))
    until(lambda: len(api.watchers) == 1)
    api.token = "second-secret-token"
    api.end_watches()
    site.said("answers 401")
    (tmp_path / "renewed").write_text("second-secret-token")
    os.rename(tmp_path / "renewed", tmp_path / "token")
    api.put("web-a", pods(1, 2))
    c.wait("web", *places(1, 2))
    site.process.terminate()
    assert site.process.wait(PATIENCE) == 0
    assert not any("secret" in line for line in site.lines)


def test_refused(sinew, certificate, tmp_path):
    cert, _ = certificate("api")
    head = "services: {shop: {endpoints: {web: {from: 'k8s://a/b'}}}}\n"
    for kubernetes, words in [
            ("", "this is no pod"),
            ("kubernetes: {server: 'http://10.0.0.1:80', token_file: t}", "in the clear"),
            ("kubernetes: {server: 'ftp://10.0.0.1:80'}", "server:"),
            ("kubernetes: {server: 'https://10.0.0.1', ca: none.pem}", "none.pem")]:
        (tmp_path / "m.yaml").write_text(head + kubernetes)
        r = sinew.run("agent", "--listen", "127.0.0.1:0", "--mesh", "m.yaml", patience=20)
        assert r.returncode == 2 and words in r.stderr and "k8s://a/b" in r.stderr, r.stderr
    # a certificate that nobody vouches for
    api = ApiServer(tls=certificate("other"))
    try:
        (tmp_path / "m.yaml").write_text(head + "kubernetes: {server: '%s', ca: %s}" % (api.url, cert))
        p, _ = sinew.agent("--mesh", "m.yaml")
        line = ""
        while "k8s://a/b" not in line:
            line = p.stderr.readline()
            assert line
        assert "certificate" in line and not api.lists
    finally:
        api.stop()


@pytest.mark.skipif(node is None, reason="needs node")
def test_http2(sinew, cleanup, certificate):
    """Many watches share a connection."""
    cert, key = certificate("api")
    server = subprocess.Popen([node, os.path.join(HERE, "kube_h2.js"), cert, key], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    sinew.children.append(server)
    site = Site(sinew, cleanup, kubernetes={
        "server": "https://127.0.0.1:" + server.stdout.readline().strip(), "ca": cert})
    services = ["s%d" % i for i in range(60)]

    def move(address):
        server.stdin.write(address + "\n")
        server.stdin.flush()
        return [int(n) for n in server.stdout.readline().split()]

    site.write(**{s: "k8s://shop/" + s for s in services})
    c = site.start()
    for s in services:
        c.wait(s, "10.0.0.1:80")
    until(lambda: move("10.0.0.2") == [1, len(services)])
    for s in services:
        c.wait(s, "10.0.0.2:80")
