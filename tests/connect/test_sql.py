# SPDX-License-Identifier: Apache-2.0
"""SQL drivers against what goes wrong: processes killed, servers away, disks full, locks, keys; looked
at with Python's sqlite3 and psql, which are not ours."""
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../services"))
import services  # noqa: E402
from postgres import Postgres  # noqa: E402

BUILD = os.environ["SINEW_BUILD_ROOT"]
WORKER = os.path.join(BUILD, "tests/connect/sql_worker")
ENV = dict(os.environ, SINEW_MODULE_PATH=os.path.join(BUILD, "src/connect/database"))


class Worker:
    """sql_worker, and what it said: number -> word."""

    def __init__(self, kind, options, first=1, at_once=16):
        self.said, self.lines = {}, []
        self.process = subprocess.Popen(
            [WORKER, kind, options if isinstance(options, str) else json.dumps(options), str(first),
             str(at_once)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=ENV)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            if line.endswith("\n"):
                word, number = line.split()[:2]
                self.said[int(number)] = word
                self.lines.append(line)

    def count(self, word="ok"):
        return list(self.said.values()).count(word)

    def wait(self, word="ok", more=200, patience=20):
        """Until it has said a word so many times more."""
        goal, end = self.count(word) + more, time.monotonic() + patience
        while self.count(word) < goal:
            assert time.monotonic() < end, "%s: %d of %d; %s" % (
                word, self.count(word), goal, self.lines[-3:])
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.01)

    def kill(self):
        self.process.kill()
        return self.over()

    def end(self):
        self.process.stdin.close()
        said = self.over()
        assert self.process.returncode == 0, self.process.stderr.read()
        return said

    def over(self):
        self.thread.join()
        self.process.wait()
        return self.said


def check(said, rows, counted, killed=False):
    """Nothing that was acknowledged is lost, nothing refused is there, nothing is half."""
    rows = set(rows)
    ok = {n for n, word in said.items() if word == "ok"}
    no = {n for n, word in said.items() if word == "no"}
    maybe = {n for n, word in said.items() if word == "maybe"}
    assert ok - rows == set(), "acknowledged and lost"
    assert no & rows == set(), "refused and there"
    if not killed:
        assert rows - ok - maybe == set()
    assert counted == len(rows)


# ---- sqlite ----

def looked(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return ([n for n, in db.execute("SELECT n FROM acks")],
                db.execute("SELECT n FROM acks_count").fetchone()[0])


@pytest.mark.parametrize("group", [128, 1])
def test_sqlite_killed(tmp_path, group):
    path = str(tmp_path / "a.db")
    said = {}
    for i in range(3):
        w = Worker("sqlite", {"path": path, "group": group}, first=1 + i * 1000000)
        w.wait(more=100)
        said.update(w.kill())
        check(said, *looked(path), killed=True)
    assert os.stat(path).st_mode & 0o777 == 0o600
    w = Worker("sqlite", {"path": path}, first=9000000)
    w.wait(more=100)
    said.update(w.end())
    assert not os.path.exists(path + "-wal")  # it was taken into the file
    check(said, *looked(path), killed=True)


def test_sqlite_full(tmp_path):
    path = str(tmp_path / "a.db")
    w = Worker("sqlite", {"path": path, "max-size": "128KiB"})
    w.wait("no", more=20)
    assert any("full" in line for line in w.lines)
    said = w.end()
    check(said, *looked(path))
    # With more room it goes on.
    w = Worker("sqlite", {"path": path}, first=1000000)
    w.wait(more=50)
    said.update(w.end())
    check(said, *looked(path))


def test_sqlite_locked(tmp_path):
    path = str(tmp_path / "a.db")
    w = Worker("sqlite", {"path": path, "busy-timeout": "100ms"}, at_once=4)
    w.wait(more=20)
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    db.execute("BEGIN IMMEDIATE")
    w.wait("no", more=2)
    assert "locked" in w.lines[-1]
    db.execute("ROLLBACK")
    db.close()
    w.wait(more=20)
    check(w.end(), *looked(path))


# ---- postgres ----

@pytest.fixture(scope="module")
def server():
    try:
        pg = Postgres(settings=["deadlock_timeout = 100ms"])
    except services.Missing as why:
        pytest.skip("SKIPPED: %s" % why)
    with pg:
        yield pg


@pytest.fixture
def clean(server):
    server.sql("DROP TABLE IF EXISTS acks; DROP TABLE IF EXISTS acks_count")
    return server


def looked_at(server):
    return ([int(n) for n in server.sql("SELECT n FROM acks").split()],
            int(server.sql("SELECT n FROM acks_count")))


def test_postgres_conformance(server):
    r = subprocess.run([os.path.join(BUILD, "tests/conformance_connect_sql")],
                       env=dict(ENV, TEST_POSTGRES=server.options()), capture_output=True, text=True)
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr[-4000:]


def test_postgres_killed_server(clean):
    w = Worker("postgres", clean.options(**{"reconnect-max": "200ms"}), at_once=32)
    w.wait()
    for how in (clean.kill, clean.stop):
        how()
        w.wait("no", more=5)
        clean.start()
        w.wait()
    check(w.end(), *looked_at(clean))
    assert any("cannot" in x or "refused" in x or "starting" in x for x in w.lines), w.lines[-5:]


def test_postgres_killed_backends(clean):
    w = Worker("postgres", clean.options(), at_once=32)
    for _ in range(5):
        w.wait(more=50)
        clean.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                  "WHERE application_name = 'sinew'")
    w.wait(more=50)
    check(w.end(), *looked_at(clean))


def test_postgres_killed_client(clean):
    w = Worker("postgres", clean.options(), at_once=32)
    w.wait()
    said = w.kill()
    time.sleep(0.2)  # what it had sent may still be carried out
    check(said, *looked_at(clean), killed=True)


def test_postgres_frozen(clean):
    """Backends that do nothing: units time out, and all is well when they go on."""
    w = Worker("postgres", clean.options(), at_once=8)
    w.wait()
    pids = [int(p) for p in clean.sql("SELECT pid FROM pg_stat_activity "
                                      "WHERE application_name = 'sinew'").split()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(3.5)  # units have three seconds
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    w.wait()
    check(w.end(), *looked_at(clean))


def sinew(tmp_path, config, operation, params):
    path = tmp_path / "sinew.yaml"
    path.write_text("peers: {database: {pg: {'0': {subClass: postgres, config: %s}}}}\n" % config)
    r = subprocess.run([os.environ["SINEW_BINARY"], "--config", str(path), "database", "pg", operation,
                        json.dumps(params), "--retry", "none"], capture_output=True, text=True, env=ENV, timeout=20)
    return r.returncode, r.stdout, r.stderr


def test_postgres_shell(server, tmp_path):
    ask = {"sql": "SELECT $1::int AS a, 'é'::text AS b, '\\x01ff'::bytea AS c, 1.5::float8 AS d, "
                  "NULL AS e, true AS f, 12.30::numeric AS g", "params": [7]}
    code, out, err = sinew(tmp_path, server.options(), "query", ask)
    assert code == 0, err
    assert json.loads(out) == {"rows": [{"a": 7, "b": "é", "c": {"base64": "Af8="}, "d": 1.5,
                                         "e": None, "f": 1, "g": "12.30"}], "affected": 0}
    code, _, err = sinew(tmp_path, server.options(), "query", {"sql": "SELEKT"})
    assert code == 1 and "42601" in err and "syntax error" in err
    code, _, err = sinew(tmp_path, server.options(), "query", {"sql": "CREATE TABLE x (a int)"})
    assert code == 1 and "25006" in err


def test_postgres_cannot(server, tmp_path):
    for more, word in (({"database": "nowhere"}, '"nowhere" does not exist'),
                       ({"port": 1}, "refused"), ({"host": "nobody.invalid"}, "nobody.invalid"),
                       ({"tls": {"mode": "verify-full"}}, "SSL")):
        code, _, err = sinew(tmp_path, server.options(**more), "query", {"sql": "SELECT 1"})
        assert code == 1 and word in err, (more, err)
        assert "\n\n" not in err


def test_postgres_tls(tmp_path):
    """verify-full: by the right authority and for the right name only."""
    try:
        pg = Postgres(settings=["ssl = on"])
    except services.Missing as why:
        pytest.skip("SKIPPED: %s" % why)
    key, cert = os.path.join(pg.data, "server.key"), os.path.join(pg.data, "server.crt")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key,
                    "-out", cert], check=True, capture_output=True)
    if pg.user:
        os.chown(key, pg.user.pw_uid, pg.user.pw_gid)
        os.chown(cert, pg.user.pw_uid, pg.user.pw_gid)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(open(cert, "rb").read())
    with pg:
        ask = {"sql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"}
        tls = {"mode": "verify-full", "ca": str(ca)}
        code, out, err = sinew(tmp_path, pg.options(host="localhost", tls=tls), "query", ask)
        assert code == 0 and json.loads(out)["rows"] == [{"ssl": 1}], err
        code, _, err = sinew(tmp_path, pg.options(tls=tls), "query", ask)
        assert code == 1 and "does not match host name" in err, err
        code, _, err = sinew(tmp_path, pg.options(host="localhost", tls={"mode": "verify-full"}),
                             "query", ask)
        assert code == 1 and "certificate verify failed" in err, err
