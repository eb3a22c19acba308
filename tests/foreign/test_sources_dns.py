# SPDX-License-Identifier: Apache-2.0
"""Endpoints whose instances come from DNS: what connectors of the agent see, exactly, and that they never
see less than there is."""
import dns.rcode
import pytest

from dns_peer import SILENT, NameServer
from sources_site import Site


@pytest.fixture
def names(cleanup):
    ns = NameServer()
    cleanup(ns)
    return ns


@pytest.fixture
def by_dns(sinew, cleanup, names):
    return Site(sinew, cleanup, resolver="127.0.0.1:%d" % names.port)


def test_dns(by_dns, names):
    """A and AAAA come and go with their TTLs; "none" empties, failures keep; large answers by TCP."""
    names.set("web.example", "A", ["10.0.0.2", "10.0.0.1"])
    names.set("web.example", "AAAA", ["2001:db8::1"], ttl=300)
    many = ["10.9.%d.%d" % (i // 250, i % 250) for i in range(300)]
    names.set("many.example", "A", many)
    names.set("alias.example", "A", ["10.0.5.1"], ttl=300)
    names.set("alias.example", "AAAA", [])  # and nobody says for how long
    by_dns.write(web="dns://web.example:8080",
                 both={"from": ["dns://alias.example:1"], "instances": {"fixed": "127.0.0.1:99"}},
                 many="dns://many.example:7", none="dns://nobody.example:7")
    names.truncate = True
    c = by_dns.start()
    c.wait("web", "10.0.0.1:8080", "10.0.0.2:8080", "[2001:db8::1]:8080")
    c.wait("both", "fixed=127.0.0.1:99", "10.0.5.1:1")
    c.wait("many", *["%s:7" % a for a in many])
    c.wait("none")
    assert names.count("many.example", "A", "tcp") >= 1
    names.truncate = False
    # one goes, another comes: the rest keep their names
    names.set("web.example", "A", ["10.0.0.2", "10.0.0.3"])
    c.wait("web", "10.0.0.2:8080", "10.0.0.3:8080", "[2001:db8::1]:8080")
    # nobody asks before the TTL is over, though others of the file are asked all the time
    assert names.count("alias.example", "A", "tcp") == 1
    # failures keep the list
    names.set("web.example", "A", int(dns.rcode.SERVFAIL))
    by_dns.said("dns://web.example:8080", "A of web.example", "instances stay")
    names.set("web.example", "A", ["10.0.0.4"])
    c.wait("web", "10.0.0.4:8080", "[2001:db8::1]:8080")
    by_dns.said("dns://web.example:8080: it answers again")
    # there is no such name any more: an answer, too
    names.drop("web.example", "A")
    names.drop("web.example", "AAAA")
    c.wait("web")
    assert c.history("web") == [["10.0.0.1:8080", "10.0.0.2:8080", "2001:db8::1:8080"],
                                ["10.0.0.2:8080", "10.0.0.3:8080", "2001:db8::1:8080"],
                                ["10.0.0.4:8080", "2001:db8::1:8080"], []]


def test_srv(by_dns, names):
    names.set("_http._tcp.shop.example", "SRV",
              ["10 60 8001 a.example.", "10 40 8002 b.example.", "20 0 8003 c.example."])
    names.set("a.example", "A", ["10.1.0.1"], ttl=300)
    names.set("b.example", "A", ["10.1.0.2", "10.1.0.3"], ttl=300)
    names.set("c.example", "A", ["10.1.0.4"], ttl=300)
    by_dns.write(web="srv://_http._tcp.shop.example")
    c = by_dns.start()
    c.wait("web", "10.1.0.1:8001", "10.1.0.2:8002", "10.1.0.3:8002")
    assert c.weights["web", "10.1.0.1:8001"] == 60 and c.weights["web", "10.1.0.3:8002"] == 40
    names.set("_http._tcp.shop.example", "SRV", ["20 0 8003 c.example."])
    c.wait("web", "10.1.0.4:8003")
    names.set("_http._tcp.shop.example", "SRV", ["0 0 0 ."])
    c.wait("web")


def test_reading_the_file_again_asks_nobody_anew(by_dns, names):
    """Sources that stay go on; what an endpoint has is served until its new sources have answered."""
    names.set("web.example", "A", ["10.0.0.1"], ttl=300)
    names.set("web.example", "AAAA", [], ttl=300)
    names.negative_s = 300
    names.set("slow.example", "A", SILENT)
    names.set("slow.example", "AAAA", [])
    by_dns.write(web="dns://web.example:80")
    c = by_dns.start()
    c.wait("web", "10.0.0.1:80")
    asked = names.count("web.example", "A")
    by_dns.write(web="dns://web.example:80", other={"instances": ["127.0.0.1:1"]})
    c.wait("other", "1=127.0.0.1:1")
    by_dns.write(web=["dns://web.example:80", "dns://slow.example:80"],
                 other={"instances": ["127.0.0.1:2"]})
    c.wait("other", "1=127.0.0.1:2")
    # a broken file changes nothing
    by_dns.write(web="dns://10.0.0.1:80")
    by_dns.said("mesh.yaml", "addresses go under `instances`")
    by_dns.write(web=["dns://web.example:80", "dns://slow.example:80"],
                 other={"instances": ["127.0.0.1:3"]})
    c.wait("other", "1=127.0.0.1:3")
    names.set("slow.example", "A", ["10.0.0.9"])
    c.wait("web", "10.0.0.1:80", "10.0.0.9:80")
    assert c.history("web") == [["10.0.0.1:80"], ["10.0.0.1:80", "10.0.0.9:80"]]
    assert names.count("web.example", "A") == asked
    # what is not in the file any more is gone at once, and asked for no more
    by_dns.write(other={"instances": ["127.0.0.1:3"]})
    c.wait("web")


def test_an_agent_that_knows_nothing_yet_says_nothing(by_dns, names):
    """A connector that comes from another agent keeps what it has."""
    names.set("web.example", "A", SILENT)
    names.set("web.example", "AAAA", SILENT)
    by_dns.write(web="dns://web.example:80", other={"instances": ["127.0.0.1:1"]})
    c = by_dns.start()
    c.wait("other", "1=127.0.0.1:1")
    assert c.history("web") == []
