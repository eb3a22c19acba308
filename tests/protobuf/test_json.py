# SPDX-License-Identifier: Apache-2.0
"""Our mapping of protobuf messages to JSON against google.protobuf.json_format: random messages in
both directions, and JSON that one of both might refuse."""
import json
import math
import os
import random
import re
import subprocess

import pytest

json_format = pytest.importorskip("google.protobuf.json_format")
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: E402
from google.protobuf.message import EncodeError  # noqa: E402

BUILD = os.environ.get("SINEW_BUILD_ROOT", "build")
TOOL = os.path.join(BUILD, "tests", "protobuf", "json_tool")
SEED = int(os.environ.get("SINEW_SEED", "1"))
N = int(os.environ.get("SINEW_MESSAGES", "300"))


def set_path(name):
    return os.path.join(BUILD, "src", "proto", "generated", name + ".desc")


def load(name):
    files = descriptor_pb2.FileDescriptorSet()
    with open(set_path(name), "rb") as f:
        files.ParseFromString(f.read())
    pool = descriptor_pool.DescriptorPool()
    for f in files.file:
        pool.Add(f)
    return pool, message_factory.MessageFactory(pool)


POOLS = {name: load(name) for name in ("json2", "json3")}


def cls(name):
    pool, factory = POOLS[name.split(".")[1]]
    return factory.GetPrototype(pool.FindMessageTypeByName(name))


def tool(name, lines):
    """Answers of our tool: (True, text) or (False, sentence)."""
    r = subprocess.run([TOOL, set_path(name.split(".")[1]), name], input="\n".join(lines) + "\n",
                       capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stderr
    out = [line for line in r.stdout.split("\n") if line]
    assert len(out) == len(lines)
    return [(a.startswith("ok"), a.partition(" ")[2]) for a in out]


# ---- random messages ----

STRINGS = ["", "a", "text with \"quotes\" and \\", "gr\u00fc\u00df", "\U0001f600", "\u0001\u001f\n\t", "</script>",
           "x" * 300]
WHOLE = {"32": [0, 1, -1, 127, 128, 2**31 - 1, -2**31, 1000000],
         "64": [0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -2**63],
         "u32": [0, 1, 127, 128, 2**32 - 1, 2**31], "u64": [0, 1, 2**63, 2**64 - 1, 2**53 + 1]}
REALS = [0.0, -0.0, 1.0, 0.1, -1.5, 1e300, 5e-324, 1 / 3, 123456789.123, 1e21, float("inf"),
         -float("inf"), float("nan"), 2.0**53]
FLOATS = [0.0, -0.0, 1.0, 0.5, -1.5, 2.0**127, 1.401298464324817e-45, 16777216.0,
          float("inf"), -float("inf"), float("nan"), 1e10]


class Maker:
    def __init__(self, seed, pool):
        self.r = random.Random(seed)
        self.pool = pool

    def scalar(self, f):
        r = self.r
        t = f.type
        if t in (f.TYPE_INT32, f.TYPE_SINT32, f.TYPE_SFIXED32):
            return r.choice(WHOLE["32"])
        if t in (f.TYPE_INT64, f.TYPE_SINT64, f.TYPE_SFIXED64):
            return r.choice(WHOLE["64"])
        if t in (f.TYPE_UINT32, f.TYPE_FIXED32):
            return r.choice(WHOLE["u32"])
        if t in (f.TYPE_UINT64, f.TYPE_FIXED64):
            return r.choice(WHOLE["u64"])
        if t == f.TYPE_DOUBLE:
            return r.choice(REALS + [r.uniform(-1e6, 1e6), r.gauss(0, 1) * 10**r.randint(-30, 30)])
        if t == f.TYPE_FLOAT:
            return r.choice(FLOATS + [r.uniform(-1e6, 1e6)])
        if t == f.TYPE_BOOL:
            return r.random() < 0.5
        if t == f.TYPE_STRING:
            return r.choice(STRINGS)
        if t == f.TYPE_BYTES:
            return r.randbytes(r.choice([0, 1, 2, 3, 4, 5, 50]))
        values = [v.number for v in f.enum_type.values]
        if f.enum_type.file.syntax == "proto3" and f.enum_type.name != "NullValue":
            values += [77]
        return r.choice(values)

    def known(self, m, depth):
        """Whether the message was one that may not be random everywhere."""
        r = self.r
        name = m.DESCRIPTOR.full_name
        if name == "google.protobuf.Timestamp":
            m.seconds = r.choice([0, -62135596800, 253402300799, 951782400, 951868799, 1, -1,
                                  r.randint(-62135596800, 253402300799)])
            m.nanos = r.choice([0, 1, 999999999, 1000, 1000000, 120000000])
        elif name == "google.protobuf.Duration":
            sign = r.choice([-1, 1])
            m.seconds = sign * r.choice([0, 1, 315576000000, 12345])
            m.nanos = sign * r.choice([0, 1, 999999999, 1000, 1000000, 120000000])
        elif name == "google.protobuf.FieldMask":
            m.paths.extend(r.choice([[], ["a"], ["foo_bar.baz", "x"], ["a.b_c.d_e"]]))
        elif name == "google.protobuf.Any":
            kinds = ["sinew.json3.Leaf", "sinew.json3.Scalars", "google.protobuf.Duration",
                     "google.protobuf.Value", "google.protobuf.Int64Value", "google.protobuf.Empty",
                     "google.protobuf.Any"]
            if depth > 3 or r.random() < 0.1:
                return True
            inner = POOLS["json3"][1].GetPrototype(
                self.pool.FindMessageTypeByName(r.choice(kinds)))()
            self.fill(inner, depth + 1)
            m.Pack(inner)
        elif name == "google.protobuf.Value":
            kind = r.randint(0, 5 if depth < 5 else 3)
            if kind == 0:
                m.null_value = 0
            elif kind == 1:
                m.number_value = r.choice([x for x in REALS if math.isfinite(x)])
            elif kind == 2:
                m.string_value = r.choice(STRINGS)
            elif kind == 3:
                m.bool_value = r.random() < 0.5
            elif kind == 4:
                self.fill(m.struct_value, depth + 1)
                m.struct_value.SetInParent()
            else:
                self.fill(m.list_value, depth + 1)
                m.list_value.SetInParent()
        elif name == "google.protobuf.Struct":
            for _ in range(r.randint(0, 3)):
                self.fill(m.fields[r.choice(STRINGS)], depth + 1)
        elif name == "google.protobuf.ListValue":
            for _ in range(r.randint(0, 3)):
                self.fill(m.values.add(), depth + 1)
        else:
            return False
        return True

    def map_field(self, m, f, depth):
        key, value = f.message_type.fields
        field = getattr(m, f.name)
        for _ in range(self.r.randint(0, 3)):
            k = self.scalar(key)
            if value.type == value.TYPE_MESSAGE:
                self.fill(field[k], depth + 1)
            else:
                field[k] = self.scalar(value)

    def fill(self, m, depth=0):
        if self.known(m, depth):
            return
        for f in m.DESCRIPTOR.fields:
            required = f.label == f.LABEL_REQUIRED
            if f.type == f.TYPE_GROUP or (not required and self.r.random() < 0.5):
                continue
            if f.type == f.TYPE_MESSAGE and depth > 4:
                continue
            if f.label == f.LABEL_REPEATED and f.type == f.TYPE_MESSAGE \
                    and f.message_type.GetOptions().map_entry:
                self.map_field(m, f, depth)
            elif f.label == f.LABEL_REPEATED:
                for _ in range(self.r.randint(0, 3)):
                    if f.type == f.TYPE_MESSAGE:
                        self.fill(getattr(m, f.name).add(), depth + 1)
                    else:
                        getattr(m, f.name).append(self.scalar(f))
            elif f.type == f.TYPE_MESSAGE:
                getattr(m, f.name).SetInParent()
                self.fill(getattr(m, f.name), depth + 1)
            else:
                setattr(m, f.name, self.scalar(f))


TYPES = ["sinew.json3.Scalars", "sinew.json3.All", "sinew.json3.Lists", "sinew.json3.Maps",
         "sinew.json3.Known", "sinew.json2.Old"]


def messages(name):
    pool = POOLS[name.split(".")[1]][0]
    made = []
    for seed in range(SEED, SEED + N):
        m = cls(name)()
        Maker(seed, pool).fill(m)
        made.append(m)
    return made


def ordered(m):
    """Inside of every Any, too, the order of map entries is made the same."""
    if m.DESCRIPTOR.full_name == "google.protobuf.Any" and m.type_url:
        inner = cls_of_url(m.type_url).FromString(m.value)
        m.value = ordered(inner).SerializeToString(deterministic=True)
    for f, value in m.ListFields():
        if f.type != f.TYPE_MESSAGE:
            continue
        if f.label != f.LABEL_REPEATED:
            ordered(value)
        elif f.message_type.GetOptions().map_entry:
            if f.message_type.fields[1].type == f.TYPE_MESSAGE:
                for k in value:
                    ordered(value[k])
        else:
            for v in value:
                ordered(v)
    return m


def cls_of_url(url):
    pool, factory = POOLS["json3"]
    return factory.GetPrototype(pool.FindMessageTypeByName(url.rpartition("/")[2]))


def same(a, b):
    """Bytes in a fixed order tell NaN from 0.0 from -0.0."""
    return ordered(a).SerializeToString(deterministic=True) == \
        ordered(b).SerializeToString(deterministic=True)


def parse(name, text):
    return json_format.Parse(text, cls(name)(), descriptor_pool=POOLS[name.split(".")[1]][0])


@pytest.mark.parametrize("name", TYPES)
def test_random(name):
    made = messages(name)
    pool = POOLS[name.split(".")[1]][0]
    ours = tool(name, ["w " + m.SerializeToString().hex() for m in made])
    theirs = [json_format.MessageToJson(m, indent=None, descriptor_pool=pool) for m in made]
    for m, (ok, text), other in zip(made, ours, theirs):
        assert ok, text
        assert json.loads(text) == json.loads(other), m
        assert same(parse(name, text), m), text
    # Back: from their text, and from ours.
    for texts in theirs, [t for _, t in ours]:
        for m, (ok, data), text in zip(made, tool(name, ["j " + t for t in texts]), texts):
            assert ok, (data, text)
            assert same(cls(name).FromString(bytes.fromhex(data)), m), text


# ---- JSON that one of both might refuse ----

ODD = [None, True, False, 0, 1, -1, 1.0, 1.5, -0.0, 2**31, 2**31 - 1, -2**31 - 1, 2**32, 2**32 - 1, 2**53 + 1,
       2**63 - 1, -2**63, 1e10, 1e400, 3.5e38, "", "0", "1", "-1", "1.0", "1.5", "1e3", " 1", "1 ", "+1",
       "0x10", "01", "--1", "-", "2147483648", "18446744073709551615", "18446744073709551616",
       "9223372036854775808", "-9223372036854775809", "NaN", "Infinity", "-Infinity", "inf",
       "true", "false", "NONE", "RED", "none", "ONE", "EINS", "SMALL", "YWI=", "YWI", "YQ", "YQ==",
       "YQ=", "Y", "-_-_", "+/+/", "YW I=", "a b", "1s", "1.5s", "-1.5s", "1.1234567891s", "s", "1",
       ".5s", "1.s", "315576000001s", "1972-01-01T10:00:20.021Z", "1972-01-01T10:00:20+01:30",
       "1972-01-01T10:00:20-23:59", "1972-01-01t10:00:20z", "1972-02-30T10:00:20Z",
       "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z",
       "9999-12-31T23:59:60Z", "1972-01-01T10:00:20", "1972-01-01T24:00:00Z", "2000-02-29T00:00:00Z",
       "1900-02-29T00:00:00Z", "a,b", "fooBar.b", "foo_bar", ",", "a,", [], [1], ["a"], [None], [[]], {},
       {"a": 1}, {"": 2}, {"1": "x"}, {"true": "x"}, {"@type": "x"}, {"longName": "x"},
       {"long_name": "x"}, {"a": 1, "b": 2}, {"value": 1},
       {"@type": "type.googleapis.com/sinew.json3.Leaf", "a": 3},
       {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"},
       {"@type": "type.googleapis.com/no.Such"}]


def mutations(name, count):
    """JSON of random messages with one value replaced by an odd one, or one name by another: the
    JSON and the odd value."""
    r = random.Random(SEED)
    fields = [f.json_name for f in cls(name).DESCRIPTOR.fields]
    pool = POOLS[name.split(".")[1]][0]
    made = messages(name)
    for f in fields:
        for v in ODD:
            yield {f: v, **({"name": "x"} if name.endswith("Old") and f != "name" else {})}, v
    for _ in range(count):
        j = json.loads(json_format.MessageToJson(r.choice(made), descriptor_pool=pool))
        node = j
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            k = r.choice(keys)
            if isinstance(node[k], (dict, list)) and node[k] and r.random() < 0.8:
                node = node[k]
                continue
            if isinstance(node, dict) and r.random() < 0.2:
                node[r.choice(fields + ["x", "1", "value", "a", "longName"])] = node.pop(k)
                yield j, "name"
            else:
                node[k] = r.choice(ODD)
                yield j, node[k]
            break


def theirs(name, text):
    try:
        return parse(name, text).SerializeToString(deterministic=True)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError, KeyError,
            EncodeError):
        return None


# What the library for Python accepts against the specification: bytes with other characters between,
# enums out of range, numbers like "+1" and true, "" for a message, "1.s" and ten digits for a
# duration, empty names in a mask, Infinity without quotes, two members of a oneof when one is null, integers that a Struct's
# doubles do not hold.
LAX = re.compile(
    r"base64$|a second member of the oneof|groups are not supported|not JSON: invalid token|"
    r"cannot hold|number is due, not a boolean|an object is due, not (a string|an array)|"
    r"a number is due$|like .1.5s. is due|names like .* are due|"
    r"(Enum|Inside|Null|null|ize|izes)\S*: (the number is out of range|a whole number is due|"
    r"not a value of)")


def lax(odd, ok, answer):
    """Whether the library for Python is known to be laxer, or stricter, than the specification."""
    if ok:
        return odd in ("1.0", "1e3", None)  # whole numbers in other forms; null for a list of Value
    if answer.endswith("is due") and "base64" not in answer and odd != "name":
        return odd in ("+1", " 1", "1 ", "01", "inf", "1.s", ".5s", "1.1234567891s", 1.5)
    return LAX.search(answer) is not None


@pytest.mark.parametrize("name", TYPES)
def test_odd(name):
    cases = [(json.dumps(j), odd) for j, odd in mutations(name, 5 * N)]
    both = 0
    for (text, odd), (ok, answer) in zip(cases, tool(name, ["j " + t for t, _ in cases])):
        other = theirs(name, text)
        if ok != (other is not None):
            assert lax(odd, ok, answer), (text, answer)
        elif ok:
            assert same(cls(name).FromString(bytes.fromhex(answer)), cls(name).FromString(other)), \
                text
            both += 1
    assert both > 100


def test_sentences():
    for text, sentence in {
            '{"leaf":{"lonName":"x"}}': 'field leaf.lonName: not in sinew.json3.Leaf; do you mean longName?',
            '{"oEnum":"RAD"}': 'field oEnum: not a value of sinew.json3.Colour; do you mean RED?',
            '{"oBytes":"a b"}': 'field oBytes: bytes are given in base64',
            '{"oInt32":1,"oString":"x"}': 'field oString: a second member of the oneof choice',
            '{"all":{"all":{"oInt32":2147483648}}}': 'field all.all.oInt32: the number is out of range',
            '{"under_Two":1}': 'field under_Two: not in sinew.json3.All; do you mean underTwo?',
            '{"renamed_field":"a","@other":"b"}': 'field @other: given under both its names',
            '[]': 'message: an object is due, not an array',
            '{"leaf":1}': 'field leaf: an object is due, not a number',
            '{': '1:2: not JSON: string or \'}\' expected',
    }.items():
        ok, answer = tool("sinew.json3.All", ["j " + text])[0]
        assert not ok and answer.partition(" ")[2] == sentence
