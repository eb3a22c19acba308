# SPDX-License-Identifier: Apache-2.0
"""Three registries on one PostgreSQL: what holds while they write at once, and without the database."""
import http.client
import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry import PATIENCE, Postgres, Registry

BODY = {"resources": [], "dataSchemes": [], "descriptor": "d", "expires": 600, "status": "live", "runtime": "r"}
LONG = bool(os.environ.get("SINEW_LONG"))


@pytest.fixture(scope="module")
def postgres():
    p = Postgres()
    yield p
    p.stop()


@pytest.fixture
def three(postgres):
    url = postgres.database()
    with ThreadPoolExecutor(3) as pool:  # they also make the tables at once
        made = list(pool.map(lambda _: Registry({"url": url}, {"EXPIRES": "1"}), range(3)))
    yield made
    for r in made:
        r.stop(check=False)


def put(r, user, hyperty, conn=None, **more):
    return r.request("PUT", "/hyperty/user/%s/%s" % (user, hyperty), dict(BODY, **more), conn=conn)[0]


def get(r, path, conn=None):
    status, _, body = r.request("GET", path, conn=conn)
    return status, json.loads(body) if body else None


def at_once(three, fn, n=8):
    """fn(registry, connection, i), i in range(n) at each of the three, all at once."""
    def run(k):
        r = three[k % 3]
        conn = r.connect()
        try:
            return fn(r, conn, k)
        finally:
            conn.close()

    with ThreadPoolExecutor(3 * n) as pool:
        return list(pool.map(run, range(3 * n)))


def test_an_id_has_one_owner(three):
    for hyperty in range(10):
        got = at_once(three, lambda r, c, k: put(r, "user%d" % k, "own%d" % hyperty, c))
        assert sorted(got) == [200] + [404] * 23
        owner = got.index(200)
        assert all(get(r, "/hyperty/url/own%d" % hyperty)[1]["userID"] == "user%d" % owner for r in three)


def test_the_last_guid_wins_everywhere(three):
    at_once(three, lambda r, c, k: put(r, "gu%d" % k, "gh%d" % k, c, guid="g"))
    seen = [get(r, "/hyperty/guid/g") for r in three]
    assert seen[0][0] == 200 and seen[0] == seen[1] == seen[2] and len(seen[0][1]) == 1


def test_updated_is_emptied_once_and_expiry_told_once(three):
    n = 120
    at_once(three, lambda r, c, k: [put(r, "u%d" % k, "x%d-%d" % (k, i), c, expires=0) for i in range(n // 24)])
    gone, lock, end = [], threading.Lock(), time.monotonic() + PATIENCE

    def poll(r, c, k):
        while time.monotonic() < end:
            status, body = get(r, "/registry/updated", c)
            assert status == 200
            with lock:
                gone.extend(body)
                if len(gone) >= n:
                    return
            time.sleep(0.02)

    at_once(three, poll, 2)
    assert len(gone) == len(set(gone)) == n
    time.sleep(1.2)  # another heartbeat of each
    assert [get(r, "/registry/updated")[1] for r in three] == [{}, {}, {}]


def test_what_was_given_up_is_not_done_later(postgres, three):
    """A write whose client has gone to another registry meanwhile must not come after that one's next."""
    def late(r, c, k):
        try:
            c.timeout = 3
            return r.request("PUT", "/hyperty/user/late/late%d" % k, BODY, {"sinew-timeout-ms": "300"}, conn=c)[0]
        except TimeoutError:
            return "no answer"
        except (OSError, http.client.HTTPException):  # whose time is up needs no status
            return "given up"

    assert at_once(three, lambda r, c, k: put(r, "late", "warm%d" % k, c), 1) == [200] * 3
    with postgres.locked("r%d" % postgres.n, "domain_hyperties"):
        got = at_once(three, late, 2)
    assert put(three[0], "late", "after") == 200
    assert got == ["given up"] * 6
    assert [get(three[0], "/hyperty/url/late%d" % k)[0] for k in range(6)] == [404] * 6


def test_nothing_acknowledged_is_lost(postgres, three):
    """One registry is killed and started again, the database goes away for a while."""
    acknowledged, lock, over = [], threading.Lock(), threading.Event()
    failed_reads = []

    def write(k):
        i = 0
        while not over.is_set():
            name = "w%d-%d" % (k, i)
            try:
                if put(random.choice(three), "writer%d" % k, name) == 200:
                    with lock:
                        acknowledged.append(name)
                    i += 1
            except OSError:
                pass
            time.sleep(0.002)

    def read():
        while not over.is_set():
            with lock:
                name = random.choice(acknowledged) if acknowledged else None
            if name is None:
                continue
            until = time.monotonic() + 20
            while True:  # as the connector does: another one, again
                try:
                    status, _ = get(random.choice(three), "/hyperty/url/" + name)
                    if status == 200:
                        break
                    if status != 503 or time.monotonic() > until:
                        failed_reads.append((name, status))
                        break
                except OSError:
                    pass
                time.sleep(0.01)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(6)]
    threads += [threading.Thread(target=read) for _ in range(3)]
    for t in threads:
        t.start()
    time.sleep(0.7)
    victim = three[0]
    victim.p.kill()
    victim.p.wait()
    victim.restart()
    time.sleep(0.5)
    postgres.kill()
    time.sleep(5 if LONG else 1)
    postgres.start()
    time.sleep(0.5)
    n = len(acknowledged)
    until = time.monotonic() + PATIENCE
    while len(acknowledged) < n + 30 and time.monotonic() < until:
        time.sleep(0.05)  # writes succeed again
    over.set()
    for t in threads:
        t.join()
    assert len(acknowledged) > n and failed_reads == []
    for name in acknowledged:
        assert get(random.choice(three), "/hyperty/url/" + name)[0] == 200
