# SPDX-License-Identifier: Apache-2.0
"""Putting records and following a stream, on kinesalite, with the AWS SDK as the other side."""
import base64
import json
import time

SHARD0, SHARD1 = "shardId-000000000000", "shardId-000000000001"
HIGH = str(2 ** 128 - 1)  # of the last shard


def data_of(record):
    return base64.b64decode(record["Data"]["$bytes"])


def read_with_sdk(stream, shard=SHARD0):
    it = stream.call("GetShardIterator", ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    return stream.sdk.call("kinesis", "GetRecords", {"ShardIterator": it["ShardIterator"]},
                           stream.url)["Records"]


def put_with_sdk(stream, key, data, **more):
    return stream.call("PutRecord", PartitionKey=key, Data={
        "$bytes": base64.b64encode(data).decode()}, **more)


# ---- putting ----

def test_what_we_put_the_sdk_reads(stream, peer):
    s = stream(2)
    p = peer(jobs=(s.name, s.url))
    records = [("a", b"\x00\xff\n" * 10, "0"), ("b\u00fc", b"x", HIGH), ("c", b"y", "5")]
    assert p.put("jobs", records)[:3] == ("OK", 1, 0)
    told = p.records(3)
    assert [t[0] for t in told] == [SHARD0, SHARD1, SHARD0]
    low = read_with_sdk(s)
    assert [(r["PartitionKey"], data_of(r), r["SequenceNumber"]) for r in low] == [
        ("a", records[0][1], told[0][1]), ("c", b"y", told[2][1])]
    assert [r["PartitionKey"] for r in read_with_sdk(s, SHARD1)] == ["b\u00fc"]


def test_more_than_a_request_takes(stream, peer, fault_proxy):
    s = stream()
    proxy = fault_proxy(s.url, {"AK": "SK"})
    p = peer(jobs=(s.name, proxy.url))
    p.say("fill", 1201, 10)
    p.say("put", "jobs", 0, "policy")
    assert p.put_end()[:3] == ("OK", 3, 0)
    sizes = [len(params["Records"]) for op, params, _ in proxy.seen]
    assert sizes == [500, 500, 201]
    p.records(1201)
    p.say("fill", 12, 1000000)  # five of them are 5 MB, six more than 5 MiB
    p.say("put", "jobs", 0, "policy")
    assert p.put_end()[:3] == ("OK", 3, 0)
    assert [len(params["Records"]) for _, params, _ in proxy.seen[3:]] == [5, 5, 2]
    p.records(12)


def refuse_some(which, kind="ProvisionedThroughputExceededException"):
    """A fault: the records at these places are not stored."""
    def fault(h, op, params):
        out = []
        for i, r in enumerate(params["Records"]):
            if i in which:
                out.append({"ErrorCode": kind, "ErrorMessage": "Rate exceeded"})
            else:
                out.append({"ShardId": SHARD0, "SequenceNumber": "7%03d" % i})
        h.server.outer.reply(h, 200, json.dumps(
            {"FailedRecordCount": len(which), "Records": out}).encode())
    return fault


def faulty(fault_proxy, s):
    proxy = fault_proxy(s.url)
    proxy.server.outer = proxy
    return proxy


def test_only_refused_records_are_sent_again(stream, peer, fault_proxy):
    s = stream()
    proxy = faulty(fault_proxy, s)
    p = peer(jobs=(s.name, proxy.url))
    proxy.fault(refuse_some([1, 3]))
    records = [("k%d" % i, b"%d" % i) for i in range(5)]
    assert p.put("jobs", records)[:3] == ("OK", 2, 0)
    told = p.records(5)
    assert [t[1] for t in told if t[1].startswith("7")] == ["7000", "7002", "7004"]
    assert [[r["PartitionKey"] for r in params["Records"]] for _, params, _ in proxy.seen] == [
        ["k0", "k1", "k2", "k3", "k4"], ["k1", "k3"]]
    assert [data_of(r) for r in read_with_sdk(s)] == [b"1", b"3"]


def test_what_is_refused_for_ever(stream, peer, fault_proxy):
    s = stream()
    proxy = faulty(fault_proxy, s)
    p = peer(jobs=(s.name, proxy.url))
    proxy.fault(refuse_some([0], "InternalFailure"), count=100)
    code, requests, failed, text, _ = p.put("jobs", [("a", b"1"), ("b", b"2")])
    assert (code, failed) == ("STATUS", 2 - 1) and requests > 1
    assert "1 of 2 records" in text and "InternalFailure" in text
    assert [t[2] for t in p.records(2)] == ["InternalFailure", "stored"]
    # without retries, and within a deadline
    assert p.put("jobs", [("a", b"1")], retry="none")[:3] == ("STATUS", 1, 1)
    p.records(1)


def test_an_answer_to_something_else(stream, peer, fault_proxy):
    s = stream()
    proxy = faulty(fault_proxy, s)
    p = peer(jobs=(s.name, proxy.url))

    def short(h, op, params):
        proxy.reply(h, 200, b'{"FailedRecordCount":0,"Records":[]}')
    proxy.fault(short)
    assert p.put("jobs", [("a", b"1")])[:3] == ("PROTOCOL", 1, 1)
    p.records(1)


def test_throttled_cut_and_lost_answers(stream, peer, fault_proxy):
    s = stream()
    proxy = fault_proxy(s.url)
    p = peer(jobs=(s.name, proxy.url))
    for fault in ("ProvisionedThroughputExceededException", "cut", "half", "ServiceUnavailable",
                  "cut-after"):
        proxy.fault(fault)
        assert p.put("jobs", [("k", fault.encode())])[:3] == ("OK", 1, 0), fault
        p.records(1)
    read = [data_of(r) for r in read_with_sdk(s)]
    # every one at least once; what got lost on the way back is there twice
    assert sorted(set(read)) == sorted([b"ProvisionedThroughputExceededException", b"cut", b"half",
                                        b"ServiceUnavailable", b"cut-after"])
    assert read.count(b"cut-after") == 2 and read.count(b"cut") == 1


def test_no_stream(peer, kinesalite):
    p = peer(jobs=("no-such-stream", kinesalite.url))
    code, requests, failed, text, _ = p.put("jobs", [("k", b"x"), ("l", b"y")])
    assert (code, requests, failed) == ("REJECTED", 1, 2)
    assert "ResourceNotFoundException" in text and "no-such-stream" in text
    assert [t[2] for t in p.records(2)] == ["ResourceNotFoundException"] * 2
    p.consume("jobs")
    end = p.until("end ")[-1]
    assert end.startswith("end REJECTED") and "ResourceNotFoundException" in end
    p.say("stop", 0)


def test_no_such_queue(peer):
    p = peer()
    code, _, failed, _, _ = p.put("jobs", [("k", b"x")], deadline=300)
    assert code in ("NO_PEER", "DEADLINE") and failed == 1
    p.records(1)


# ---- following ----

def test_what_the_sdk_puts_we_read(stream, peer):
    s = stream(2)
    for i in range(6):
        put_with_sdk(s, "k%d" % i, b"\x00%d" % i, ExplicitHashKey="0" if i % 2 else HIGH)
    p = peer(jobs=(s.name, s.url))
    p.consume("jobs")
    got = p.got(6)
    assert [d for shard, _, _, d in got if shard == SHARD0] == [b"\x001", b"\x003", b"\x005"]
    assert [d for shard, _, _, d in got if shard == SHARD1] == [b"\x000", b"\x002", b"\x004"]
    put_with_sdk(s, "later", b"later")
    assert p.got(1)[0][2:] == ("later", b"later")
    p.say("stop", 0)
    assert p.until("end ")[-1] == "end OK "


def test_going_on_behind_checkpoints(stream, peer):
    s = stream()
    p = peer(jobs=(s.name, s.url))
    p.put("jobs", [("k", b"%d" % i) for i in range(10)])
    p.consume("jobs", most=4)
    p.got(4)
    seen = p.until("checkpoint ")
    sequence = seen[-1].split()[2]
    p.say("stop", 0)
    p.until("end OK")
    p.consume("jobs", checkpoints={SHARD0: sequence})
    assert [d for _, _, _, d in p.got(6)] == [b"%d" % i for i in range(4, 10)]
    p.say("stop", 0)
    p.until("end OK")


def test_latest_and_timestamp(stream, peer):
    s = stream()
    p = peer(jobs=(s.name, s.url))
    p.put("jobs", [("k", b"old")])
    time.sleep(1.1)  # what is to be told apart by time has to be apart
    now = int(time.time() * 1000)
    p.put("jobs", [("k", b"new")])
    p.consume("jobs", "timestamp", now - 500)
    assert [d for _, _, _, d in p.got(1)] == [b"new"]
    p.say("stop", 0)
    p.until("end OK")
    q = peer(jobs=(s.name, s.url))
    q.consume("jobs", "latest")
    for _ in range(100):  # until it has begun
        p.put("jobs", [("k", b"newest")])
        try:
            assert q.got(1, 0.3)[0][3] == b"newest"
            break
        except AssertionError:
            pass
    else:
        raise AssertionError("never")
    q.say("stop", 0)
    q.until("end OK")


def test_split_and_merge_while_reading(stream, peer):
    s = stream()
    p = peer(jobs=(s.name, s.url))
    writer = peer(jobs=(s.name, s.url))
    p.consume("jobs")
    sent = []

    def put(n, **more):
        batch = [("k%d" % (len(sent) + i), b"%d" % (len(sent) + i)) for i in range(n)]
        assert writer.put("jobs", batch)[0] == "OK"
        writer.records(n)
        sent.extend(d for _, d in batch)
    put(20)
    s.split(SHARD0)
    put(30)
    s.split("shardId-000000000001")
    put(30)
    s.merge("shardId-000000000004", "shardId-000000000002")
    put(30)
    got = p.got(len(sent), 90)
    assert sorted(d for _, _, _, d in got) == sorted(sent)
    for shard in {g[0] for g in got}:
        order = [seq for sh, seq, _, _ in got if sh == shard]
        assert order == sorted(order)
    # no child before the end of its parents
    began, ended = {}, {}
    for i, line in enumerate(p.seen):
        words = line.split()
        if words[0] == "got":
            began.setdefault(words[1], i)
        if words[0] == "checkpoint" and words[2] == "SHARD_END":
            ended[words[1]] = i
    for shard in s.shards():
        for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId")):
            if parent and shard["ShardId"] in began:
                assert ended[parent] < began[shard["ShardId"]]
    p.say("stop", 0)
    p.until("end OK")


def test_one_batch_a_shard_and_answers_in_part(stream, peer):
    s = stream()
    p = peer(jobs=(s.name, s.url))
    p.put("jobs", [("k", b"%d" % i) for i in range(8)])
    p.say("hold")
    p.consume("jobs", most=4)
    assert [d for _, _, _, d in p.got(4)] == [b"0", b"1", b"2", b"3"]
    time.sleep(0.7)  # nothing may come
    assert p.lines.empty()
    p.say("half")
    p.say("release")  # this one whole; what comes is answered by halves
    assert p.until("checkpoint ")
    assert [d for _, _, _, d in p.got(4)] == [b"4", b"5", b"6", b"7"]
    assert [d for _, _, _, d in p.got(2)] == [b"6", b"7"]
    assert [d for _, _, _, d in p.got(1)] == [b"7"]
    p.say("stop", 5000)
    p.until("end OK")


def test_stop_waits_for_answers(stream, peer):
    s = stream()
    p = peer(jobs=(s.name, s.url))
    p.put("jobs", [("k", b"x")])
    p.say("hold")
    p.consume("jobs")
    p.got(1)
    p.say("stop", 0)
    p.say("release")
    rest = p.until("end ")
    assert [line.split()[0] for line in rest] == ["checkpoint", "end"] and rest[-1] == "end OK "
    p.consume("jobs")
    p.got(1)
    p.say("stop", 200)
    assert p.until("end ")[-1].startswith("end TIMEOUT")
    p.say("release")  # late, and on another thread


def test_closed_with_a_batch_out(stream, peer):
    s = stream()
    p = peer(jobs=(s.name, s.url))
    p.put("jobs", [("k", b"x")])
    p.say("hold")
    p.consume("jobs")
    p.got(1)
    p.p.stdin.close()  # sn_close(), then the answer
    assert p.until("end ")[-1].startswith("end CLOSED")
    assert p.p.wait(20) == 0
    p.p.stdin = None


def test_cut_throttled_and_expired_while_reading(stream, peer, fault_proxy):
    s = stream()
    proxy = faulty(fault_proxy, s)
    p = peer(jobs=(s.name, proxy.url))

    def expired(h, op, params):
        proxy.reply(h, 400, b'{"__type":"ExpiredIteratorException","message":"too old"}')
    proxy.fault("ProvisionedThroughputExceededException", op="ListShards")
    proxy.fault("cut", op="GetShardIterator")
    proxy.fault("ProvisionedThroughputExceededException", 2, op="GetRecords")
    proxy.fault("half", op="GetRecords")
    proxy.fault(expired, op="GetRecords", at=1)
    proxy.fault("cut-after", op="GetRecords", at=2)
    writer = peer(jobs=(s.name, s.url))
    writer.put("jobs", [("k", b"%d" % i) for i in range(20)])
    p.consume("jobs", most=3)
    assert [d for _, _, _, d in p.got(20)] == [b"%d" % i for i in range(20)]
    assert sum(line.startswith("trouble ") for line in p.seen) >= 4
    assert any("ProvisionedThroughputExceededException" in line for line in p.seen)
    assert all(op != "DescribeStream" for op in proxy.operations())
    p.say("stop", 0)
    p.until("end OK")


def test_an_old_server_without_list_shards(stream, peer, fault_proxy):
    s = stream(3)
    proxy = faulty(fault_proxy, s)
    p = peer(jobs=(s.name, proxy.url))

    def unknown(h, op, params):
        proxy.reply(h, 400, b'{"__type":"UnknownOperationException"}')

    def small(h, op, params):  # pages of one; kinesalite knows none
        everything = s.call("DescribeStream")["StreamDescription"]
        rest = [x for x in everything["Shards"]
                if x["ShardId"] > params.get("ExclusiveStartShardId", "")]
        proxy.reply(h, 200, json.dumps({"StreamDescription": {
            "Shards": rest[:1], "HasMoreShards": len(rest) > 1}}).encode())
    proxy.fault(unknown, 100, op="ListShards")
    proxy.fault(small, 100, op="DescribeStream")
    put_with_sdk(s, "k", b"x")
    p.consume("jobs")
    assert p.got(1)[0][3] == b"x"
    assert proxy.operations().count("DescribeStream") == 3
    assert [params.get("ExclusiveStartShardId") for op, params, _ in proxy.seen
            if op == "DescribeStream"] == [None, SHARD0, SHARD1]
    p.say("stop", 0)
    p.until("end OK")


def test_one_shard_only(stream, peer):
    s = stream(2)
    p = peer(jobs=(s.name, s.url))
    p.put("jobs", [("a", b"low", "0"), ("b", b"high", HIGH)])
    p.consume("jobs", shard=SHARD1)
    assert p.got(1)[0][3] == b"high"
    s.split(SHARD1)  # it ends, and so does the consumer
    rest = p.until("end ", 90)
    assert rest[-1] == "end OK " and rest[-2] == "checkpoint %s SHARD_END" % SHARD1
    assert not any(line.startswith("got") for line in rest)
    p.say("stop", 0)
    p.consume("jobs", shard="shardId-000000000099")
    assert p.until("end ")[-1].startswith("end NOT_FOUND")
    p.say("stop", 0)
