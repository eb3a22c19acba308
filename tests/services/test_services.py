# SPDX-License-Identifier: Apache-2.0
"""The servers answer, the proxy does what a test tells it: a test on sand proves nothing."""
import hashlib
import time
import urllib.error
import urllib.request

from fault_proxy import sign

TABLE = {"TableName": "services", "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
         "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
         "BillingMode": "PAY_PER_REQUEST"}


def test_dynalite_through_a_proxy_that_verifies(dynalite, sdk, fault_proxy):
    proxy = fault_proxy(dynalite.url, {"AK": "SK"})

    def call(service, op, params, secret="SK"):
        return sdk.call(service, op, params, proxy.url, key="AK", secret=secret)
    call("dynamodb", "CreateTable", TABLE)
    item = {"id": "b", "n": {"$number": "123456789012345678901234567890"}, "s": {"$set": ["x"]},
            "b": {"$bytes": "AAEC"}}
    call("document", "Put", {"TableName": "services", "Item": item})
    assert call("document", "Get", {"TableName": "services", "Key": {"id": "b"}})["Item"] == item
    assert call("dynamodb", "ListTables", {}, "no")["error"] == "InvalidSignatureException"
    proxy.fault("ProvisionedThroughputExceededException")
    assert call("dynamodb", "ListTables", {})["error"] == "ProvisionedThroughputExceededException"
    proxy.fault("cut")
    assert "error" in call("dynamodb", "ListTables", {})
    proxy.clock = 1000
    assert "Signature expired" in call("dynamodb", "ListTables", {})["message"]
    call("dynamodb", "DeleteTable", {"TableName": "services"})


def test_kinesalite(kinesalite, sdk):
    sdk.call("kinesis", "CreateStream", {"StreamName": "services", "ShardCount": 1}, kinesalite.url)
    while sdk.call("kinesis", "DescribeStreamSummary", {"StreamName": "services"}, kinesalite.url)[
            "StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        pass
    put = sdk.call("kinesis", "PutRecord", {"StreamName": "services", "PartitionKey": "k",
                                            "Data": {"$bytes": "AAEC"}}, kinesalite.url)
    assert put["ShardId"] == "shardId-000000000000"
    sdk.call("kinesis", "DeleteStream", {"StreamName": "services"}, kinesalite.url)


def status(server, secret):
    """Of a signed request for the list of buckets."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = [date[:8], server.region, "s3", "aws4_request"]
    headers = {"host": server.url.split("//")[1], "x-amz-date": date,
               "x-amz-content-sha256": hashlib.sha256(b"").hexdigest()}
    signed = sorted(headers)
    signature = sign(secret, "GET", "/", "", headers, b"", signed, date, scope)
    headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
        server.key, "/".join(scope), ";".join(signed), signature)
    try:
        with urllib.request.urlopen(urllib.request.Request(server.url, headers=headers)) as r:
            return r.status
    except urllib.error.HTTPError as e:
        return e.code


def test_swift_verifies(swift):
    assert status(swift, swift.secret) == 200
    assert status(swift, "wrong") == 403


def test_etcd_keeps_what_it_has_over_a_kill(etcd):
    etcd.post("/v3/kv/put", {"key": "YQ==", "value": "Yg=="})
    etcd.kill()
    etcd.start()
    assert etcd.post("/v3/kv/range", {"key": "YQ=="})["kvs"][0]["value"] == "Yg=="
