# SPDX-License-Identifier: Apache-2.0
"""Requests of DynamoDB and Kinesis as a program of ours sends them: real sockets, real variables and
files, metadata servers on loopback, a proxy that verifies signatures and misbehaves as told."""
import http.server
import json
import ssl
import threading
import time

import certs
import pytest

TABLE = {"TableName": "aws-tool", "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
         "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
         "BillingMode": "PAY_PER_REQUEST"}
LIST = [("ListTables", {})]


def config(url, key="AK", secret="SK", **more):
    return dict({"region": "eu-north-1", "endpoint": url,
                 "credentials": {"accessKeyId": key, "secretAccessKey": secret}}, **more)


@pytest.fixture
def table(dynalite, call):
    made = call(config(dynalite.url), [("CreateTable", TABLE)])[0]
    assert made["class"] == "ok", made
    while call(config(dynalite.url), [("DescribeTable", {"TableName": "aws-tool"})])[0]["answer"][
            "Table"]["TableStatus"] != "ACTIVE":
        pass
    yield dynalite
    call(config(dynalite.url), [("DeleteTable", {"TableName": "aws-tool"})])
    while call(config(dynalite.url), [("DescribeTable", {"TableName": "aws-tool"})])[0]["class"] == "ok":
        pass


def put(i):
    return "PutItem", {"TableName": "aws-tool", "Item": {"id": {"S": str(i)},
                                                         "x": {"S": "\u00e4" * i}}}


def get(i):
    return "GetItem", {"TableName": "aws-tool", "Key": {"id": {"S": str(i)}}}


def test_dynalite(table, call, fault_proxy):
    """Signatures are verified on the way; x-amz-crc32 comes from dynalite."""
    proxy = fault_proxy(table.url, {"AK": "SK"})
    answers = call(config(proxy.url), [put(i) for i in range(50)], at_once=8)
    assert {a["class"] for a in answers} == {"ok"}, answers[0]
    answers = call(config(proxy.url), [get(i) for i in range(50)], at_once=8)
    assert [a["answer"]["Item"]["x"]["S"] for a in answers] == ["\u00e4" * i for i in range(50)]
    assert all(a["request_id"] for a in answers)
    headers = proxy.seen[-1][2]
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    bad = call(config(proxy.url), [("GetItem", {"TableName": "no-such-table", "Key": {"id": {"S": "1"}}}),
                                   ("PutItem", {"TableName": "aws-tool"}), ("NoSuch", {})])
    assert [a["type"] for a in bad] == ["ResourceNotFoundException", "ValidationException",
                                        "UnknownOperationException"]
    assert {a["class"] for a in bad} == {"rejected"}
    wrong = call(config(proxy.url, secret="no"), LIST)[0]
    assert (wrong["class"], wrong["type"]) == ("rejected", "InvalidSignatureException")
    assert "does not match" in wrong["message"] or "does not" in wrong["message"]


def test_faults(table, call, fault_proxy):
    proxy = fault_proxy(table.url, {"AK": "SK"})
    expected = [("ProvisionedThroughputExceededException", "throttled", "no"),
                ("ThrottlingException", "throttled", "no"), ("RequestLimitExceeded", "throttled", "no"),
                ("InternalServerError", "failed", "yes"), ("ServiceUnavailable", "unavailable", "yes"),
                ("cut", "failed", "maybe"), ("cut-after", "failed", "maybe"),
                ("half", "failed", "yes"), ("crc", "failed", "yes")]
    for name, kind, sent in expected:
        proxy.fault(name, at=1)
        good, bad, after = call(config(proxy.url), [put(1), get(1), get(1)])
        assert (good["class"], bad["class"], bad["sent"], after["class"]) == (
            "ok", kind, sent, "ok"), (name, bad)
        assert bad["retry_on"] != 0


def test_clock(table, call, fault_proxy):
    for wrong in (3600, -86400):
        proxy = fault_proxy(table.url, {"AK": "SK"})
        proxy.clock = wrong
        answers = call(config(proxy.url), LIST * 3)
        assert [a["class"] for a in answers] == ["ok"] * 3
        assert len(proxy.seen) == 4  # one was sent twice


def test_kinesalite(kinesalite, call):
    answers = call(config(kinesalite.url), [("CreateStream", {"StreamName": "s", "ShardCount": 1}),
                                            ("NoSuch", {})], service="kinesis")
    assert answers[0]["class"] == "ok" and answers[0]["answer"] == {}
    assert answers[1]["type"] == "UnknownOperationException"


# ---- where credentials come from ----

class Metadata:
    """Credentials of a container or an instance; .asked has (method, path, headers)."""

    def __init__(self, key="AK", secret="SK", lasts=3600):
        self.asked, self.token = [], "SESSION"
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self):
                self.do_GET()

            def do_GET(self):
                outer.asked.append((self.command, self.path, dict(self.headers)))
                status, body = outer.answer(self)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.document = {"Code": "Success", "AccessKeyId": key, "SecretAccessKey": secret,
                         "Token": "TOKEN/==", "Expiration": time.strftime(
                             "%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + lasts))}
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, h):
        roles = "/latest/meta-data/iam/security-credentials/"
        if h.path == "/latest/api/token" and h.command == "PUT":
            return 200, self.token.encode()
        if h.path.startswith("/latest") and h.headers.get("X-aws-ec2-metadata-token") != self.token:
            return 401, b""
        if h.path == roles:
            return 200, b"some-role"
        if h.path in (roles + "some-role", "/creds"):
            return 200, json.dumps(self.document).encode()
        return 404, b"no"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def metadata():
    made = []

    def make(**kwargs):
        made.append(Metadata(**kwargs))
        return made[-1]
    yield make
    for m in made:
        m.stop()


@pytest.fixture
def service(dynalite, fault_proxy):
    """A service that takes the keys AK, of a session or not."""
    def make(token=None):
        return fault_proxy(dynalite.url, {"AK": "SK"}, {"AK": token} if token else {})
    return make


def bare(url):
    return {"region": "eu-north-1", "endpoint": url}


def test_variables_and_files(service, call, tmp_path):
    """`config: {}` works."""
    s = service("TOKEN")
    env = {"AWS_REGION": "eu-north-1", "AWS_ENDPOINT_URL_DYNAMODB": s.url, "AWS_ACCESS_KEY_ID": "AK",
           "AWS_SECRET_ACCESS_KEY": "SK", "AWS_SESSION_TOKEN": "TOKEN"}
    assert call({}, LIST, env)[0]["class"] == "ok"
    assert "/eu-north-1/dynamodb/" in s.seen[-1][2]["authorization"]
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = NO\naws_secret_access_key = NO\n"
        "[work]\naws_access_key_id = AK\naws_secret_access_key = SK\naws_session_token = TOKEN\n")
    (tmp_path / ".aws" / "config").write_text(
        "[profile work]\nregion = eu-west-3\nendpoint_url = %s\n" % s.url)
    assert call({}, LIST, {"AWS_PROFILE": "work"})[0]["class"] == "ok"
    assert "/eu-west-3/dynamodb/" in s.seen[-1][2]["authorization"]
    refused = call(bare(s.url), LIST)[0]
    assert refused["type"] == "UnrecognizedClientException"
    assert call({}, LIST).startswith("aws_tool: no region: neither in the peer's config, nor AWS_REGION")


def test_container(service, metadata, call, tmp_path):
    s, m = service("TOKEN/=="), metadata()
    token = tmp_path / "token"
    token.write_text("from-file\n")
    env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": m.url + "/creds",
           "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token)}
    answers = call(bare(s.url), LIST * 20, env, at_once=10)
    assert {a["class"] for a in answers} == {"ok"}, answers[0]
    assert [(c, p, h["Authorization"]) for c, p, h in m.asked] == [("GET", "/creds", "from-file")]


def test_instance(service, metadata, call):
    s, m = service("TOKEN/=="), metadata()
    env = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": m.url}
    answers = call(bare(s.url), LIST * 20, env, at_once=10)
    assert {a["class"] for a in answers} == {"ok"}, answers[0]
    assert [(c, p.rsplit("/", 1)[1]) for c, p, _ in m.asked] == [
        ("PUT", "token"), ("GET", ""), ("GET", "some-role")]


@pytest.mark.parametrize("lasts", [5, -100])
def test_what_expires_soon_is_used_once(service, metadata, call, lasts):
    """What was fetched is tried, for our clock may be wrong; the next request fetches again."""
    s, m = service("TOKEN/=="), metadata(lasts=lasts)
    answers = call(bare(s.url), LIST * 3, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": m.url + "/creds"})
    assert {a["class"] for a in answers} == {"ok"}, answers
    assert len(m.asked) == 3


def test_refusals_say_where_was_looked(service, metadata, call):
    s, m = service(), metadata()
    m.document = {"Code": "AssumeRoleUnauthorizedAccess", "Message": "cannot assume"}
    env = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": m.url}
    a = call(bare(s.url), LIST, env)[0]
    assert (a["class"], a["code"], a["sent"], a["type"]) == ("rejected", "REJECTED", "no", "")
    for word in ("config", "AWS_ACCESS_KEY_ID", "profile default", m.url, "cannot assume"):
        assert word in a["message"]
    a = call(bare(s.url), LIST, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/creds"})[0]
    assert "plain http only" in a["message"]
    assert "AWS_EC2_METADATA_DISABLED" in call(bare(s.url), LIST)[0]["message"]
    assert s.seen == []


# ---- TLS ----

@pytest.fixture
def tls(tmp_path):
    """A service behind TLS, with a certificate of an authority that only we know."""
    cert, key = certs.alone(tmp_path, names="DNS:localhost")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(b"{}")

        def do_GET(self):
            self.reply(b'{"AccessKeyId": "AK", "SecretAccessKey": "SK"}')

        def reply(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_address[1], cert
    server.shutdown()
    server.server_close()


def test_tls_is_verified(tls, call):
    port, ca = tls
    url = "https://localhost:%d" % port
    a = call(config(url), LIST * 2)[0]
    assert (a["class"], a["code"], a["sent"]) == ("failed", "TLS", "no")
    assert "certificate" in a["detail"]
    assert [a["class"] for a in call(config(url), LIST * 2, {"AWS_CA_BUNDLE": ca})] == ["ok", "ok"]
    a = call(config("https://127.0.0.1:%d" % port), LIST, {"AWS_CA_BUNDLE": ca})[0]
    assert a["code"] == "TLS"


def test_container_by_tls(tls, service, call):
    port, ca = tls
    env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "https://localhost:%d/creds" % port}
    assert "certificate" in call(bare(service().url), LIST, env)[0]["message"]
    env["AWS_CA_BUNDLE"] = ca
    assert call(bare(service().url), LIST, env)[0]["class"] == "ok"
    assert call(bare("https://localhost:%d" % port), LIST, env)[0]["class"] == "ok"


def test_secrets_are_told_to_nobody(service, call):
    s = service()
    secret = "s3cr3t-that-nobody-sees"
    for c in (config(s.url, secret=secret), config("http://127.0.0.1:1", secret=secret),
              config("no url ::", secret=secret), config(s.url, secret=secret, credentials={
                  "accessKeyId": 5, "secretAccessKey": secret}), [secret]):
        assert secret not in json.dumps(call(c, LIST))
    assert secret not in json.dumps(s.seen)
