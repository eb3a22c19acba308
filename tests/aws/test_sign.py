# SPDX-License-Identifier: Apache-2.0
"""Our signatures against botocore's, request by request, and before Swift's S3 API, which verifies."""
import hashlib
import http.client
import os
import random
import time
from urllib.parse import quote

import pytest

botocore_auth = pytest.importorskip("botocore.auth")
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402

SEED = int(os.environ.get("SINEW_SEED", "1"))
N = int(os.environ.get("SINEW_REQUESTS", "2000"))
PLAIN = "ABCxyz019-_.~"
ODD = PLAIN + "/ %+=&?#:;,@!*'()[]{}|\\\"<>^`\u00e4\u6f22\U0001f600"


def text(r, alphabet, most):
    return "".join(r.choice(alphabet) for _ in range(r.randrange(most + 1)))


def random_request(r):
    s3 = r.random() < 0.3
    segments = [r.choice([text(r, ODD, 8), "", ".", "..", "a"]) for _ in range(r.randrange(5))]
    path = "/" + quote("/".join(segments), safe="/~")
    query = "&".join("%s=%s" % (quote(text(r, ODD, 5) or "p", safe="-_.~"),
                                quote(text(r, ODD, 5), safe="-_.~"))
                     for _ in range(r.randrange(6)))
    headers = [("X-Amz-Date", "20150830T123600Z")]
    for _ in range(r.randrange(5)):
        headers.append(("".join(r.choice("abcDEF-1") for _ in range(3)) + "-h",
                        r.choice(["", " a  b ", "\tc\t d", "e,f ", "\"g   h\""])))
    return {"method": r.choice(["GET", "POST", "PUT", "DELETE"]), "path": path, "query": query,
            "headers": headers, "body": text(r, ODD, 40), "secret": text(r, PLAIN + "/+", 80) or "s",
            "key": "AK" + text(r, "ABC123", 20), "date": "20150830T123600Z",
            "region": r.choice(["eu-north-1", "us-east-1", "cn-north-1"]),
            "service": "s3" if s3 else r.choice(["dynamodb", "kinesis"]), "s3": s3}


def theirs(q):
    """botocore signs a request that has its date already."""
    request = AWSRequest(method=q["method"], data=q["body"].encode(),
                         url="https://example.com%s%s%s" % (q["path"], "?" if q["query"] else "",
                                                            q["query"]))
    for name, value in q["headers"]:
        request.headers.add_header(name, value)
    request.context.update(timestamp=q["date"], payload_signing_enabled=True)
    kind = botocore_auth.S3SigV4Auth if q["s3"] else botocore_auth.SigV4Auth
    auth = kind(Credentials(q["key"], q["secret"]), q["service"], q["region"])
    if q["s3"]:
        request.headers["X-Amz-Content-SHA256"] = auth.payload(request)
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    return "AWS4-HMAC-SHA256 Credential=%s, SignedHeaders=%s, Signature=%s" % (
        auth.scope(request), auth.signed_headers(auth.headers_to_sign(request)), signature), canonical


def test_like_botocore(sign):
    r = random.Random(SEED)
    requests = [random_request(r) for _ in range(N)]
    for q in requests:
        q["headers"] += [("Host", "example.com")]
        if q["s3"]:
            q["headers"] += [("x-amz-content-sha256",
                              hashlib.sha256(q["body"].encode()).hexdigest())]
    for q, ours in zip(requests, sign(requests)):
        plain = dict(q, headers=[h for h in q["headers"]
                                 if h[0] not in ("Host", "x-amz-content-sha256")])
        want, canonical = theirs(plain)
        assert ours == want, (q, canonical)


class S3:
    def __init__(self, swift, sign, secret=None):
        self.server, self.sign, self.secret = swift, sign, secret or swift.secret
        self.host = swift.url.split("//")[1]

    def __call__(self, method, path, query="", body=b"", headers=()):
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = [("Host", self.host), ("X-Amz-Date", date),
                   ("x-amz-content-sha256", hashlib.sha256(body).hexdigest())] + list(headers)
        authorization = self.sign([{
            "method": method, "path": path, "query": query, "headers": headers,
            "body": body.decode(), "secret": self.secret, "key": self.server.key, "date": date,
            "region": self.server.region, "service": "s3", "s3": True}])[0]
        c = http.client.HTTPConnection(self.host, timeout=20)
        c.putrequest(method, path + ("?" + query if query else ""), skip_host=True,
                     skip_accept_encoding=True)
        for name, value in headers + [("Authorization", authorization),
                                      ("Content-Length", str(len(body)))]:
            c.putheader(name, value)
        c.endheaders(body)
        r = c.getresponse()
        answer = r.status, r.read()
        c.close()
        return answer


def test_before_a_server_that_verifies(swift, sign):
    s3 = S3(swift, sign)
    assert s3("PUT", "/sinew")[0] == 200, swift.logs()
    for name in ["plain", "with%20space", "a/b%2Bc~d", "%C3%A4", "x%3Dy%26z"]:
        status, answer = s3("PUT", "/sinew/" + name, body=b"of " + name.encode(),
                            headers=[("Content-Type", "text/plain;  charset=utf-8"),
                                     ("X-Amz-Meta-Two", "a  b")])
        assert status == 200, (name, answer)
        assert s3("GET", "/sinew/" + name) == (200, b"of " + name.encode())
    status, answer = s3("GET", "/sinew", "prefix=a%2F&max-keys=10&delimiter=%7C&marker=")
    assert status == 200 and b"a/b+c~d" in answer and b"plain" not in answer
    assert s3("GET", "/sinew", "location")[0] == 200
    assert s3("DELETE", "/sinew/plain")[0] == 204
    status, answer = S3(swift, sign, "wrong")("GET", "/sinew")
    assert status == 403 and b"SignatureDoesNotMatch" in answer
