# SPDX-License-Identifier: Apache-2.0
"""DynamoDB through libsinew: against dynalite, beside the official SDK, through trouble."""
import json
import os
import re
import time

import pytest

from conftest import FAST, HERE, REGION, Peer, config, foreign, seed_form


def doc(sdk, op, params, url):
    return sdk.call("document", op, dict(params, TableName="contacts"), url)


# ---- where the database is: the three forms ----

PUT = {"Item": {"id": {"S": "a"}, "n": {"N": "1"}}}
GET = {"Key": {"id": {"S": "a"}}}


def test_the_seeds_form(table, start):
    _, peer = start(seed_form(("contacts", config(table))))
    peer.call("PutItem", PUT)
    assert peer.call("GetItem", GET)[2] == PUT


def test_class_and_sub_class(table, start):
    _, peer = start({"peers": {"database": {"contacts": {"0": {
        "name": "contacts", "class": "nosql", "subClass": "dynamodb", "config": config(table)}}}}})
    peer.call("PutItem", PUT)
    assert peer.call("GetItem", GET)[2] == PUT


def test_ids(table, start):
    _, peer = start({"peers": {"database://shop-core-contacts": {"0": {
        "name": "contacts", "class": "nosql", "subClass": "dynamodb", "config": config(table)}}}},
        BERLIOZ_CLUSTER="shop", BERLIOZ_SECTOR="core")
    peer.call("PutItem", PUT)
    assert peer.call("GetItem", GET)[2] == PUT


def test_our_own_agent(table, sinew, tmp_path, cleanup):
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text(json.dumps(seed_form(("contacts", config(table)))))
    _, port = sinew.agent("--mesh", mesh)

    class agent:
        url = "ws://127.0.0.1:%d/task-1" % port
    peer = Peer(agent)
    cleanup(peer)
    peer.call("PutItem", PUT)
    assert peer.call("GetItem", GET)[2] == PUT


def test_empty_config_is_the_environments(table, start):
    """`config: {}`, as the guidelines print it."""
    _, peer = start(seed_form(("contacts", {})), AWS_REGION=REGION, AWS_ACCESS_KEY_ID="AK",
                    AWS_SECRET_ACCESS_KEY="SK", AWS_ENDPOINT_URL_DYNAMODB=table)
    peer.call("PutItem", PUT)
    _, peer = start(seed_form(("contacts", {})), AWS_ACCESS_KEY_ID="AK", AWS_SECRET_ACCESS_KEY="SK")
    code, _, text = peer.refused("GetItem", GET)
    assert code == "INVALID" and "region" in text


def test_another_sub_class_is_refused_by_name(start):
    _, peer = start({"peers": {"database": {"contacts": {"0": {
        "name": "c", "class": "sql", "subClass": "oracle", "config": {}}}}}})
    code, _, text = peer.refused("GetItem", GET)
    assert code == "NOTSUP" and "oracle not supported" in text


# ---- the operations ----

def test_every_operation_of_the_sdk_is_known(sdk):
    """Our table against the commands of the official SDK, and which of them have a TableName."""
    with open(os.path.join(HERE, "../../src/connect/database/dynamodb_params.c")) as f:
        ours = dict(re.findall(r'^\t\t\{"(\w+)", \w+, (\w+)(?: \| \w+)?\},$', f.read(), re.M))
    import services
    models = os.path.join(services.npm(), "@aws-sdk/client-dynamodb/dist-types")
    theirs = {n[:-len("Command.d.ts")] for n in os.listdir(models + "/commands")
              if n.endswith("Command.d.ts")}
    assert set(ours) == theirs
    with open(models + "/models/models_0.d.ts") as f:
        text = f.read()
    for name in theirs:
        with open("%s/commands/%sCommand.d.ts" % (models, name)) as f:
            shape = re.search(r"Input extends (\w+)", f.read()).group(1)
        body = re.search(r"export interface %s (?:extends \w+ )?\{\n(.*?)\n\}" % shape, text, re.S)
        has = body is not None and re.search(r"^    TableName\??:", body.group(1), re.M) is not None
        assert has == (ours[name] == "TABLE"), name


def test_an_unknown_operation(table, start):
    _, peer = start(seed_form(("contacts", config(table))))
    code, _, text = peer.refused("PutItm", {})
    assert code == "INVALID" and "did you mean PutItem?" in text


def test_the_tables_name_is_put_in(table, start, fault_proxy, sdk):
    proxy = fault_proxy(table)
    _, peer = start(seed_form(("contacts", config(proxy.url))))
    peer.call("PutItem", dict(PUT, TableName="another"))
    peer.call("BatchWriteItem", {"RequestItems": {"$": [{"PutRequest": {"Item": {"id": {"S": "b"}}}}]}})
    _, _, got = peer.call("BatchGetItem", {"RequestItems": {"$": {"Keys": [{"id": {"S": "b"}}]}}})
    assert got["Responses"] == {"contacts": [{"id": {"S": "b"}}]}
    assert peer.call("ListTables", {})[2] == {"TableNames": ["contacts"]}
    # dynalite has no transactions: what goes out is looked at.
    proxy.fault(lambda h, op, params: proxy.reply(h, 200, b"{}"), op="TransactWriteItems")
    items = [{"Put": {"TableName": "$", "Item": {"id": {"S": "$"}}}},
             {"Delete": {"TableName": "$", "Key": {"id": {"S": "b"}}}},
             {"ConditionCheck": {"TableName": "other", "Key": {}, "ConditionExpression": "x"}}]
    peer.call("TransactWriteItems", {"TransactItems": items, "ClientRequestToken": "t"})
    sent = proxy.seen[-1][1]
    assert [list(i.values())[0]["TableName"] for i in sent["TransactItems"]] == \
        ["contacts", "contacts", "other"]
    assert [p.get("TableName") for _, p, _ in proxy.seen] == ["contacts", None, None, None, None]


# ---- items as plain JSON, beside the SDK's document client ----

ITEM = {"id": "x", "text": "h\u00e9llo \U0001f600 \"\\\n", "n": 42, "neg": -0.5, "big": 12345678901234567890,
        "yes": True, "no": False, "nothing": None, "list": [1, "two", [3], {}],
        "map": {"a": {"b": {"c": []}}}}


def test_what_we_write_the_sdk_reads(table, start, sdk):
    _, peer = start(seed_form(("contacts", config(table))))
    typed = {"bytes": {"$B": "AAEC/w=="}, "texts": {"$SS": ["a", "b"]}, "numbers": {"$NS": [1, 2.5]},
             "blobs": {"$BS": ["AA=="]}, "looks": {"$$B": "is a map"}}
    assert peer.item("put", dict(ITEM, **typed)) is None
    item = doc(sdk, "Get", {"Key": {"id": "x"}}, table)["Item"]
    assert item.pop("bytes") == {"$bytes": "AAEC/w=="}
    assert sorted(item.pop("texts")["$set"]) == ["a", "b"]
    assert sorted(n["$number"] for n in item.pop("numbers")["$set"]) == ["1", "2.5"]
    assert item.pop("blobs") == {"$set": [{"$bytes": "AA=="}]}
    assert item.pop("looks") == {"$B": "is a map"}
    assert item.pop("n") == {"$number": "42"} and item.pop("neg") == {"$number": "-0.5"}
    assert item.pop("big") == {"$number": "12345678901234567890"}
    assert item.pop("list") == [{"$number": "1"}, "two", [{"$number": "3"}], {}]
    assert item == {k: v for k, v in ITEM.items() if k in item}
    # And back.
    back = peer.item("get", {"id": "x"})
    assert sorted(back["texts"]["$SS"]) == ["a", "b"] and sorted(back["numbers"]["$NS"]) == [1, 2.5]
    assert {k: v for k, v in back.items() if k not in ("texts", "numbers")} == \
        dict(ITEM, **{k: v for k, v in typed.items() if k not in ("texts", "numbers")})


def test_what_the_sdk_writes_we_read(table, start, sdk):
    _, peer = start(seed_form(("contacts", config(table))))
    digits = "1234567890123456789012345678901234567.8"
    doc(sdk, "Put", {"Item": dict(ITEM, n={"$number": digits}, big={"$number": "1e100"}, bytes={"$bytes": "AAEC"},
                                  texts={"$set": ["q"]}, map={"$B": "no bytes"})}, table)
    line = peer.ask("get", "contacts", {"id": "x"})
    assert '"n":%s' % digits in line[1]
    got = json.loads(line[1])
    assert got.pop("bytes") == {"$B": "AAEC"} and got.pop("texts") == {"$SS": ["q"]}
    assert got.pop("map") == {"$$B": "no bytes"} and got.pop("big") == 10 ** 100
    assert {k: got[k] for k in got if k != "n"} == {k: ITEM[k] for k in got if k != "n"}


def nested(n):
    value = "core"
    for _ in range(n):
        value = {"m": value}
    return value


def test_great_and_deep_items(table, start, sdk):
    _, peer = start(seed_form(("contacts", config(table))))
    great = {"id": "great", "text": "\u20ac" * 130000}  # 390 kB
    peer.item("put", great)
    assert doc(sdk, "Get", {"Key": {"id": "great"}}, table)["Item"] == great
    assert peer.item("get", {"id": "great"}) == great
    deep = {"id": "deep", "a": nested(31)}  # 32 levels, the service's limit
    peer.item("put", deep)
    assert doc(sdk, "Get", {"Key": {"id": "deep"}}, table)["Item"] == deep
    assert peer.item("get", {"id": "deep"}) == deep
    nul = {"id": "nul", "t": "a\u0000b", "\u0000": {"\u0000": 1}}
    doc(sdk, "Put", {"Item": nul}, table)
    assert peer.item("get", {"id": "nul"}) == nul
    assert peer.call("GetItem", {"Key": {"id": {"S": "nul"}}})[2]["Item"]["t"] == {"S": "a\u0000b"}
    peer.item("put", dict(nul, id="nul2"))
    assert doc(sdk, "Get", {"Key": {"id": "nul2"}}, table)["Item"]["t"] == "a\u0000b"
    pages, _ = peer.items("scan")
    assert sorted(i["id"] for p in pages for i in p) == ["deep", "great", "nul", "nul2"]
    # More than the service takes is the service's to refuse, and said.
    line = peer.ask("put", "contacts", {"id": "greater", "text": "x" * 410000})
    assert line[:2] == ["error", "REJECTED"] and "ValidationException" in line[3]


def test_conditions_and_updates(table, start, sdk):
    _, peer = start(seed_form(("contacts", config(table))))
    new = "condition=attribute_not_exists(id)"
    peer.item("put", {"id": "c", "n": 1}, new)
    line = peer.ask("put", "contacts", {"id": "c", "n": 2}, new)
    assert line[:2] == ["error", "REJECTED"] and "ConditionalCheckFailedException" in line[3]
    assert peer.item("put", {"id": "c", "n": 3}, "return_values=ALL_OLD") == {"id": "c", "n": 1}
    assert peer.item("update", {"id": "c"}, "update=SET #n = #n + :one, city = :c", "names={\"#n\":\"n\"}",
                     "values={\":one\":1.5,\":c\":\"Riga\"}", "return_values=UPDATED_NEW") == \
        {"n": 4.5, "city": "Riga"}
    assert doc(sdk, "Get", {"Key": {"id": "c"}}, table)["Item"] == \
        {"id": "c", "n": {"$number": "4.5"}, "city": "Riga"}
    assert peer.item("get", {"id": "c"}, "projection=city", "consistent=") == {"city": "Riga"}
    assert peer.item("delete", {"id": "c"}, "return_values=ALL_OLD")["n"] == 4.5
    assert peer.item("get", {"id": "c"}) is None


def fill(sdk, url, n):
    for i in range(0, n, 25):
        sdk.call("dynamodb", "BatchWriteItem", {"RequestItems": {"contacts": [
            {"PutRequest": {"Item": {"id": {"S": "k%03d" % k}, "n": {"N": str(k)},
                                     "city": {"S": ["Riga", "Oslo"][k % 2]}}}}
            for k in range(i, min(n, i + 25))]}}, url)


def test_pages(table, start, sdk, fault_proxy):
    fill(sdk, table, 60)
    proxy = fault_proxy(table)
    _, peer = start(seed_form(("contacts", config(proxy.url))))
    whole = doc(sdk, "Scan", {}, table)["Items"]
    pages, position = peer.items("scan", "page_size=7")
    assert [len(p) for p in pages] == [7] * 8 + [4] and position is None
    assert [i["id"] for p in pages for i in p] == [i["id"] for i in whole]
    # A query by an index, from the end, in pages, with a filter and a limit.
    pages, _ = peer.items("query", "index=by-city", "key_condition=city = :c", "descending=",
                          "values={\":c\":\"Riga\"}", "page_size=10")
    assert [i["id"] for p in pages for i in p] == ["k%03d" % k for k in range(58, -1, -2)]
    pages, position = peer.items("query", "index=by-city", "key_condition=city = :c",
                                 "filter=n >= :n", "values={\":c\":\"Oslo\",\":n\":20}",
                                 "page_size=6", "limit=5")
    assert [i["n"] for p in pages for i in p] == [21, 23, 25, 27, 29]
    assert len(pages[0]) == 0  # dropped by the filter, but a page
    # Stopped and gone on elsewhere: by us, by the SDK.
    pages, position = peer.items("scan", "limit=20")
    assert [i["id"] for i in pages[0]] == [i["id"] for i in whole[:20]]
    rest, end = peer.items("scan", "start=" + json.dumps(position))
    assert [i["id"] for p in rest for i in p] == [i["id"] for i in whole[20:]] and end is None
    there = doc(sdk, "Scan", {"ExclusiveStartKey": position}, table)["Items"]
    assert [i["id"] for i in there] == [i["id"] for i in whole[20:]]


def test_pages_through_trouble(table, start, sdk, fault_proxy):
    """The connection breaks and the service throttles between pages: none is lost, none comes twice."""
    fill(sdk, table, 60)
    proxy = fault_proxy(table)
    proxy.fault("cut", op="Scan", at=2)
    proxy.fault("half", op="Scan", at=1)
    proxy.fault("ProvisionedThroughputExceededException", count=2, op="Scan", at=1)
    _, peer = start(seed_form(("contacts", config(proxy.url))))
    pages, _ = peer.items("scan", "page_size=11")
    assert sorted(i["id"] for p in pages for i in p) == ["k%03d" % k for k in range(60)]
    assert len(pages) == 6 and len(proxy.operations()) == 6 + 4


# ---- trouble ----

def test_the_table_is_missing(table, start, fault_proxy):
    proxy = fault_proxy(table)
    _, peer = start(seed_form(("nowhere", config(proxy.url))))
    code, kind, text = peer.refused("GetItem", GET)
    assert (code, kind) == ("REJECTED", "ResourceNotFoundException") and "database contacts" in text
    assert proxy.operations() == ["GetItem"]  # no other try can succeed


def test_credentials(table, start, fault_proxy):
    proxy = fault_proxy(table, {"AK": "SK", "TMP": "SK"}, tokens={"TMP": "a-token"})
    good = config(proxy.url)
    agent, peer = start(seed_form(("contacts", good)))
    peer.call("PutItem", PUT)
    agent.push(seed_form(("contacts", config(proxy.url, "TMP", sessionToken="a-token"))))
    while proxy.seen[-1][2].get("x-amz-security-token") != "a-token":
        peer.call("GetItem", GET)
    for wrong in (config(proxy.url, secret="no"), config(proxy.url, key="WHO"), config(proxy.url, "TMP")):
        agent, other = start(seed_form(("contacts", wrong)))
        before = len(proxy.seen)
        code, kind, text = other.refused("GetItem", GET)
        assert code == "REJECTED"
        assert kind in ("InvalidSignatureException", "UnrecognizedClientException"), text
        assert "SK" not in " ".join(other.log) and len(proxy.seen) == before + 1
        # Right ones, pushed by the agent, and it goes on.
        agent.push(seed_form(("contacts", good)))
        end = time.monotonic() + 20
        while other.ask("call", "contacts", "GetItem", GET)[0] != "ok":
            assert time.monotonic() < end


def test_throttled(table, start, fault_proxy):
    proxy = fault_proxy(table)
    _, peer = start(seed_form(("contacts", config(proxy.url))))
    for name in ("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"):
        proxy.fault(name, 2)
        attempts, request_id, _ = peer.call("PutItem", PUT)
        assert attempts == 3 and request_id != "-"
    proxy.fault("ProvisionedThroughputExceededException", 3)
    code, kind, text = peer.refused("PutItem", PUT)
    assert kind == "ProvisionedThroughputExceededException", (code, text)
    assert "3 attempts" in text
    peer.call("PutItem", PUT)


def test_failures_of_the_service(table, start, fault_proxy):
    proxy = fault_proxy(table)
    _, peer = start(seed_form(("contacts", config(proxy.url))))
    for what in ("InternalServerError", "ServiceUnavailable", "cut", "cut-after", "half", "crc"):
        proxy.fault(what, 2)
        assert peer.call("PutItem", PUT)[0] == 3, what
    proxy.fault("InternalServerError", 3)
    code, kind, _ = peer.refused("PutItem", PUT)
    assert (code, kind) == ("STATUS", "InternalServerError")


def test_cut_in_the_middle_of_a_batch(table, start, sdk, fault_proxy):
    proxy = fault_proxy(table)
    _, peer = start(seed_form(("contacts", config(proxy.url))))
    for n, what in enumerate(("cut", "cut-after", "half")):
        proxy.fault(what, 1, "BatchWriteItem")
        ids = ["%d-%02d" % (n, i) for i in range(25)]
        attempts, _, answer = peer.call("BatchWriteItem", {"RequestItems": {"$": [
            {"PutRequest": {"Item": {"id": {"S": i}, "fill": {"S": "x" * 4000}}}} for i in ids]}})
        assert attempts == 2 and not answer.get("UnprocessedItems")
        assert all(doc(sdk, "Get", {"Key": {"id": i}}, table).get("Item") for i in ids)


def test_what_is_safe_to_repeat(table, start, fault_proxy):
    """A write that may have happened is not made again when that could change what it says."""
    proxy = fault_proxy(table)
    _, peer = start(seed_form(("contacts", config(proxy.url))))
    for verb, more, sent in (("put", [], 2), ("put", ["condition=attribute_not_exists(id)"], 1),
                             ("update", ["update=SET n = :n", "values={\":n\":1}"], 1),
                             ("delete", [], 2), ("delete", ["condition=attribute_exists(id)"], 1)):
        before = len(proxy.seen)
        proxy.fault("cut-after")
        line = peer.ask(verb, "contacts", {"id": "r"}, "retry=safe", *more)
        assert (line[0], len(proxy.seen) - before) == ("ok" if sent == 2 else "error", sent), line
        proxy.fault("ThrottlingException")  # nothing has happened: always safe
        before = len(proxy.seen)
        peer.ask(verb, "contacts", {"id": "r"}, "retry=safe", *more)
        assert len(proxy.seen) - before == 2


def test_a_wrong_clock_is_corrected_once(table, start, fault_proxy):
    for offset in (3600, -3600):
        proxy = fault_proxy(table, {"AK": "SK"})
        proxy.clock = offset
        _, peer = start(seed_form(("contacts", config(proxy.url))))
        assert peer.call("PutItem", PUT)[0] == 1
        assert len(proxy.seen) == 2  # refused, and signed again by the service's clock
        peer.call("GetItem", GET)
        assert len(proxy.seen) == 3  # remembered
        # A clock that jumps at every answer is not run after.
        proxy.fault("InvalidSignatureException", 20)
        assert peer.refused("GetItem", GET)[1] == "InvalidSignatureException"
        assert len(proxy.seen) <= 5


def test_the_database_moves_while_calls_run(table, start, fault_proxy):
    """The agent names another endpoint, the old one goes away: no call fails."""
    homes = [fault_proxy(table) for _ in range(4)]
    agent, peer = start(seed_form(("contacts", config(homes[0].url))))
    assert peer.ask("flood", "contacts", "8") == ["flooding"]
    for old, new in zip(homes, homes[1:]):
        old.wait_seen(100)
        agent.push(seed_form(("contacts", config(new.url))))
        new.wait_seen(20)
        old.stop()
    homes[-1].wait_seen(200)
    done, good, failed, first = peer.ask("stop")
    assert (done, failed) == ("flooded", "0"), first
    assert int(good) > 500


def test_the_database_moves_and_the_old_place_is_gone_at_once(table, start, fault_proxy):
    homes = [fault_proxy(table) for _ in range(4)]
    agent, peer = start(seed_form(("contacts", config(homes[0].url))), fast=False)
    assert peer.ask("flood", "contacts", "8") == ["flooding"]
    for old, new in zip(homes, homes[1:]):
        old.wait_seen(100)
        agent.push(seed_form(("contacts", config(new.url))))
        old.stop()  # what is under way breaks, what comes before the news is refused
        new.wait_seen(20)
    homes[-1].wait_seen(100)
    done, _, failed, first = peer.ask("stop")
    assert (done, failed) == ("flooded", "0"), first


def test_a_breaker_does_not_follow_the_database(table, start, fault_proxy):
    """The old place is known to be bad; the new one is a new one."""
    old, new = fault_proxy(table), fault_proxy(table)
    agent, peer = start(seed_form(("contacts", config(old.url))))
    peer.call("PutItem", PUT)
    old.stop()
    while peer.refused("GetItem", GET)[0] != "BREAKER":
        pass
    agent.push(seed_form(("contacts", config(new.url))))
    end = time.monotonic() + 0.9  # before the breaker would let a probe through
    while peer.ask("call", "contacts", "GetItem", GET)[0] != "ok":
        assert time.monotonic() < end
    assert len(new.seen) == 1


def test_refusals_and_throttling_do_not_open_the_breaker(table, start, fault_proxy):
    proxy = fault_proxy(table)
    _, peer = start(seed_form(("contacts", config(proxy.url))))
    peer.call("PutItem", PUT)
    for _ in range(40):
        assert peer.ask("put", "contacts", {"id": "a"}, "condition=attribute_not_exists(id)")[1] == "REJECTED"
    assert peer.call("GetItem", GET)[0] == 1
    proxy.fault("ProvisionedThroughputExceededException", 60)
    for _ in range(20):
        assert peer.refused("GetItem", GET)[1] == "ProvisionedThroughputExceededException"
    while proxy.faults[-1].left > 0:  # an empty budget makes fewer attempts of a call
        peer.refused("GetItem", GET)
    assert peer.call("GetItem", GET)[0] == 1


def test_the_first_entry_fails_the_next_is_used(table, start, fault_proxy):
    """`balance: first`: the next one only while the first cannot be reached."""
    first, second = fault_proxy(table), fault_proxy(table)
    _, peer = start(seed_form(("contacts", config(first.url)), ("contacts", config(second.url))))
    for _ in range(5):
        peer.call("PutItem", PUT)
    assert len(first.seen) == 5 and not second.seen
    first.stop()
    for _ in range(5):
        peer.call("GetItem", GET)
    assert len(second.seen) == 5


def test_a_throttled_first_entry_stays_the_first(table, start, fault_proxy):
    """It answers, so that it is asked again; whatever the operation, for nothing was done."""
    first, second = fault_proxy(table), fault_proxy(table)
    _, peer = start(seed_form(("contacts", config(first.url)), ("contacts", config(second.url))))
    for op, params in (("PutItem", PUT), ("UpdateItem", GET)):
        first.fault("ThrottlingException", 1)
        attempts, _, _ = peer.call(op, params)
        assert attempts == 2
    assert len(first.seen) == 4 and not second.seen


# ---- the command ----

@pytest.fixture
def command(table, sinew, cleanup):
    """command(url or nothing, *args): `sinew database contacts ARGS`"""
    def run(*args, url=table, name="contacts", **credentials):
        agent = foreign.Agent(dict(FAST, **seed_form((name, config(url, **credentials)))))
        cleanup(agent)
        return sinew.run("database", "contacts", *args, agent=agent)
    return run


def test_the_command(table, command, sdk):
    r = command("PutItem", json.dumps(PUT))
    assert r.returncode == 0, r.stderr
    assert doc(sdk, "Get", {"Key": {"id": "a"}}, table)["Item"] == {"id": "a", "n": {"$number": "1"}}
    r = command("GetItem", json.dumps(GET))
    assert r.returncode == 0 and json.loads(r.stdout) == PUT, r.stderr
    doc(sdk, "Put", {"Item": {"id": "b"}}, table)
    r = command("Scan", "{}")
    assert sorted(i["id"]["S"] for i in json.loads(r.stdout)["Items"]) == ["a", "b"]
    r = command("BatchGetItem", '{"RequestItems": {"$": {"Keys": [{"id": {"S": "b"}}]}}}')
    assert json.loads(r.stdout)["Responses"] == {"contacts": [{"id": {"S": "b"}}]}
    r = command("info")
    assert json.loads(r.stdout)["tableName"] == "contacts" and '"SK"' not in r.stdout


def test_the_command_when_it_is_refused(table, command, fault_proxy):
    r = command("GetItm", "{}")
    assert r.returncode not in (0, None) and "did you mean GetItem?" in r.stderr and not r.stdout
    r = command("GetItem", json.dumps(GET), name="nowhere")
    assert r.returncode == 1 and "ResourceNotFoundException" in r.stderr
    proxy = fault_proxy(table, {"AK": "SK"})
    r = command("GetItem", json.dumps(GET), url=proxy.url, secret="wrong")
    assert r.returncode == 5 and "InvalidSignatureException" in r.stderr
    proxy.fault("ProvisionedThroughputExceededException", 2)
    assert command("PutItem", json.dumps(PUT), url=proxy.url).returncode == 0
    proxy.fault("InternalServerError", 9)
    r = command("PutItem", json.dumps(PUT), url=proxy.url)
    assert r.returncode == 1 and "3 attempts" in r.stderr


def test_nothing_is_left_behind(table, start):
    """The program ends while calls are under way, and says nothing."""
    _, peer = start(seed_form(("contacts", config(table))))
    peer.ask("flood", "contacts", "8")
    peer.p.stdin.close()
    peer.p.wait(20)
    assert peer.p.returncode == 0
    assert not [line for line in peer.log if "error" in line.lower()], peer.log


# ---- seen from outside ----

def test_spans_and_headers(table, start, fault_proxy, cleanup):
    """One span an attempt, as the guidelines' connector has them; nothing of them goes to the service."""
    collector = foreign.Service(lambda h, body: collector.reply(h, 202))
    cleanup(collector)
    proxy = fault_proxy(table)
    message = seed_form(("contacts", config(proxy.url)))
    message["policies"] = {"values": dict(FAST["policies"]["values"], **{
        "enable-zipkin": True, "zipkin-endpoint": "http://127.0.0.1:%d/api/v2/spans" % collector.port})}
    _, peer = start(message, BERLIOZ_CLUSTER="shop", BERLIOZ_SECTOR="core", BERLIOZ_SERVICE="front")
    proxy.fault("ProvisionedThroughputExceededException")
    peer.call("PutItem", PUT)
    peer.refused("GetItem", {"Key": {"other": {"S": "x"}}})
    end = time.monotonic() + 20
    spans = []
    while len(spans) < 3:
        assert time.monotonic() < end, spans
        spans = [s for _, _, _, body in collector.requests for s in json.loads(body)]
        time.sleep(0.05)
    spans.sort(key=lambda s: s["timestamp"])
    assert [s["name"] for s in spans] == ["putitem", "putitem", "getitem"]
    assert all(s["kind"] == "CLIENT" and s["tags"]["http.url"] == "/" for s in spans)
    assert all(s["localEndpoint"]["serviceName"] == "service-shop-core-front" for s in spans)
    assert all(s["remoteEndpoint"]["serviceName"] == "database-shop-core-contacts" for s in spans), spans
    assert "error" in spans[0]["tags"] and "error" not in spans[1]["tags"]
    for _, _, headers in proxy.seen:
        assert not [n for n in headers if n.startswith(("x-b3", "trace", "sinew"))], headers


def test_the_sidecar(table, sinew, sdk, cleanup, fault_proxy):
    """Another program, without a library: POST /database/NAME/OPERATION."""
    import urllib.error
    import urllib.request
    port = foreign.free_port()
    file = sinew.tmp / "sinew.yaml"
    proxy = fault_proxy(table, {"AK": "SK"})
    file.write_text("name: t\nlisten: {sidecar: '127.0.0.1:%d'}\npeers: %s\n" % (
        port, json.dumps(seed_form(("contacts", config(proxy.url)))["peers"])))
    process = sinew.start("run", file)
    for line in process.stderr:
        if "sidecar on" in line:
            break

    def ask(operation, params):
        request = urllib.request.Request("http://127.0.0.1:%d/database/contacts/%s" % (port, operation),
                                         json.dumps(params).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as r:
                return r.status, json.load(r)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)
    proxy.fault("cut", 1)
    assert ask("PutItem", PUT) == (200, {})
    assert ask("GetItem", GET) == (200, PUT)
    assert doc(sdk, "Get", {"Key": {"id": "a"}}, table)["Item"] == {"id": "a", "n": {"$number": "1"}}
    status, problem = ask("PutItem", dict(PUT, ConditionExpression="attribute_not_exists(id)"))
    assert status >= 400 and problem["error"] == "ConditionalCheckFailedException"
