# SPDX-License-Identifier: Apache-2.0
"""`sinew queue`: operations and tail, on kinesalite, with the AWS SDK as the other side."""
import base64
import json
import subprocess
import time

from conftest import BINARY, mesh_file
from test_kinesis import HIGH, SHARD0, SHARD1, put_with_sdk, read_with_sdk


def run(config, *args):
    r = subprocess.run([BINARY, "queue", "jobs", *args, "--config", config], capture_output=True,
                       text=True, timeout=40)
    return r.returncode, r.stdout, r.stderr


def test_operations(stream, tmp_path):
    s = stream()
    config = mesh_file(tmp_path / "mesh.yaml", {"jobs": (s.name, s.url)})
    code, out, _ = run(config, "PutRecord",
                       '{"Data": "aGk=", "PartitionKey": "k", "StreamName": "other"}')
    assert code == 0 and json.loads(out)["ShardId"] == SHARD0
    assert base64.b64decode(read_with_sdk(s)[0]["Data"]["$bytes"]) == b"hi"
    code, out, _ = run(config, "DescribeStreamSummary")
    assert json.loads(out)["StreamDescriptionSummary"]["StreamName"] == s.name
    code, out, err = run(config, "SubscribeToShard")
    assert code == 2 and "SubscribeToShard is not supported: it answers with a stream of" in err
    code, out, err = run(config, "PutRecrd")
    assert code == 2 and "PutRecord" in err
    code, out, err = run(config, "GetShardIterator", "{}")
    assert code == 1 and "ValidationException" in err


def test_from_the_beginning(stream, tail):
    s = stream(2)
    put_with_sdk(s, "k\u00fc", "gr\u00fc\u00dfe\n".encode(), ExplicitHashKey="0")
    t = tail(s.name, s.url, "--from", "trim-horizon")
    first = t.got(1)[0]
    assert first["shard"] == SHARD0 and first["key"] == "k\u00fc"
    assert first["data"] == "gr\u00fc\u00dfe\n" and "base64" not in first
    assert first["sequence"].isdecimal()
    assert abs(first["arrival"] / 1000 - time.time()) < 100
    put_with_sdk(s, "b", b"\xff\x00", ExplicitHashKey=HIGH)
    second = t.got(1)[0]
    assert second["shard"] == SHARD1 and "data" not in second
    assert base64.b64decode(second["base64"]) == b"\xff\x00"
    assert t.end() == (0, "")


def test_one_shard_and_a_time(stream, tail):
    s = stream(2)
    put_with_sdk(s, "a", b"old", ExplicitHashKey=HIGH)
    time.sleep(1.1)  # what is told apart by time has to be apart
    now = time.time() - 0.5
    put_with_sdk(s, "b", b"low", ExplicitHashKey="0")
    put_with_sdk(s, "c", b"high", ExplicitHashKey=HIGH)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + (".%03dZ" % (now % 1 * 1000))
    t = tail(s.name, s.url, "--from", stamp, "--shard", SHARD1)
    assert t.got(1)[0]["data"] == "high"
    assert t.lines.empty()
    assert t.end() == (0, "")


def test_latest_is_the_default(stream, tail):
    s = stream()
    put_with_sdk(s, "a", b"old")
    t = tail(s.name, s.url)
    end = time.monotonic() + 40
    while t.lines.empty() and time.monotonic() < end:
        put_with_sdk(s, "b", b"new")
        time.sleep(0.05)  # nothing tells when it has begun
    assert t.got(1)[0]["data"] == "new"
    assert t.end()[0] == 0


def test_refused(stream, tail, fault_proxy, kinesalite, tmp_path):
    t = tail("no-such-stream", kinesalite.url)
    code, err = t.end(None)
    assert code == 5 and "ResourceNotFoundException" in err
    s = stream()
    config = mesh_file(tmp_path / "mesh.yaml", {"jobs": (s.name, s.url)})
    code, _, err = run(config, "tail", "--from", "yesterday")
    assert code == 2 and "trim-horizon" in err
    assert run(config, "tail", "{}")[0] == 2
    proxy = fault_proxy(s.url, {"AK": "another"})
    t = tail(s.name, proxy.url)
    code, err = t.end(None)
    assert code == 5 and "InvalidSignatureException" in err


def test_throttled(stream, tail, fault_proxy):
    s = stream()
    proxy = fault_proxy(s.url)
    proxy.fault("ProvisionedThroughputExceededException", 2, op="GetRecords")
    put_with_sdk(s, "a", b"x")
    t = tail(s.name, proxy.url, "--from", "trim-horizon", "-v")
    assert t.got(1)[0]["data"] == "x"
    code, err = t.end()
    assert code == 0 and err.count("ProvisionedThroughputExceededException") == 2


def test_stdout_goes_away(stream, tmp_path):
    s = stream()
    put_with_sdk(s, "a", b"x")
    config = mesh_file(tmp_path / "mesh.yaml", {"jobs": (s.name, s.url)})
    p = subprocess.Popen([BINARY, "queue", "jobs", "tail", "--from", "trim-horizon", "--config",
                          config], stdout=subprocess.PIPE)
    assert json.loads(p.stdout.readline())["data"] == "x"
    p.stdout.close()
    put_with_sdk(s, "a", b"y")
    assert p.wait(40) == 0
