# SPDX-License-Identifier: Apache-2.0
"""A domain registry of ours as a process, and the databases it keeps its entries in."""
import contextlib
import glob
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
from patience import PATIENCE, until  # noqa: E402,F401
from ports import free_port  # noqa: E402

BUILD = os.path.abspath(os.environ.get("SINEW_BUILD_ROOT", os.path.join(HERE, "../../build")))
SOURCE = os.path.abspath(os.environ.get("SINEW_SOURCE_ROOT", os.path.join(HERE, "../..")))
BINARY = os.environ.get("SINEW_BINARY", os.path.join(BUILD, "sinew"))
OURS = ("STORAGE_TYPE", "EXPIRES", "EXPIRES_MAX", "DOMAIN_ENV", "LOAD_BALANCER_IP", "LEGACY_PUT",
        "KEYSTORE", "KEYSTORE_PASSWORD", "SINEW_CONFIG", "BERLIOZ_AGENT_PATH")


class Registry:
    """`sinew registry serve`. @section: of the file, beside `listen`; env: as the original takes it."""

    def __init__(self, section=None, env=None, state=None, scheme="http", args=(), wait=True):
        self.dir = tempfile.mkdtemp(prefix="sinew-registry-")
        self.port = free_port()
        self.scheme = scheme
        self.url = "%s://127.0.0.1:%d" % (scheme, self.port)
        clean = {k: v for k, v in os.environ.items() if k not in OURS}
        clean.update(SINEW_MODULE_PATH=os.path.join(BUILD, "src/connect/database"),
                     XDG_RUNTIME_DIR=self.dir, XDG_STATE_HOME=state or self.dir, HOME=self.dir)
        clean.update(env or {})
        self.file = os.path.join(self.dir, "sinew.yaml")
        with open(self.file, "w") as f:
            json.dump({"registry": dict(section or {}, listen="127.0.0.1:%d" % self.port)}, f)
        self.env = clean
        self.err = open(os.path.join(self.dir, "stderr"), "w+")
        self.args = list(args)
        self.start()
        if wait:
            self.wait()

    def start(self):
        self.p = subprocess.Popen([BINARY, "registry", "serve", "--config", self.file] + self.args,
                                  env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL,
                                  stdout=self.err, stderr=self.err)

    def restart(self):
        """After its end."""
        self.err.truncate(0)
        self.start()
        self.wait()

    def wait(self):
        end = time.monotonic() + PATIENCE
        while "domain registry on" not in self.log():
            assert self.p.poll() is None and time.monotonic() < end, self.log()
            time.sleep(0.01)

    def log(self):
        with open(os.path.join(self.dir, "stderr")) as f:
            return f.read()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def request(self, method, path, body=None, headers=None, conn=None):
        """(status, headers, body) of one request; @body: text, bytes, or JSON."""
        c = conn or self.connect()
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body, separators=(",", ":"))
        if isinstance(body, str):
            body = body.encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        c.request(method, path, body, headers)
        r = c.getresponse()
        text = r.read()
        if conn is None:
            c.close()
        return r.status, r.headers, text

    def stop(self, check=True):
        if self.p.poll() is None:
            self.p.terminate()
        code = self.p.wait(PATIENCE)
        log = self.log()
        self.err.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        assert not check or code == 0, (code, log)
        return log


class Postgres:
    """A cluster in a temporary directory, on a Unix socket and a port; it refuses to run as root."""

    def __init__(self):
        bins = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        self.bin = bins[-1]
        self.dir = tempfile.mkdtemp(prefix="sinew-pg-")
        self.port = free_port()
        self.user = []
        if os.getuid() == 0:
            shutil.chown(self.dir, "postgres")
            self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.data = os.path.join(self.dir, "data")
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8",
                 "--locale=C", "--no-sync")
        with open(os.path.join(self.data, "postgresql.conf"), "a") as f:
            f.write("listen_addresses='127.0.0.1'\nport=%d\nunix_socket_directories='%s'\n"
                    "synchronous_commit=on\nfsync=off\nmax_connections=200\nshared_buffers=64MB\n" % (self.port, self.dir))
        self.p = None
        self.n = 0
        self.lock = threading.Lock()
        self.start()

    def run(self, tool, *args):
        r = subprocess.run(self.user + [os.path.join(self.bin, tool)] + list(args), cwd=self.dir,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert r.returncode == 0, r.stdout
        return r.stdout

    def start(self):
        with open(os.path.join(self.dir, "log"), "a") as log:
            self.p = subprocess.Popen(self.user + [os.path.join(self.bin, "postgres"), "-D", self.data],
                                      cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while subprocess.run([os.path.join(self.bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p",
                              str(self.port), "-U", "postgres"]).returncode != 0:
            assert self.p.poll() is None and time.monotonic() < end
            time.sleep(0.02)

    def kill(self):
        """As if its machine had stopped."""
        self.p.send_signal(3)  # immediate shutdown: no checkpoint, recovery at the next start
        self.p.wait(PATIENCE)

    def database(self):
        """The URL of a new one."""
        with self.lock:
            self.n += 1
            name = "r%d" % self.n
            self.run("psql", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-c",
                     "CREATE DATABASE %s" % name, "postgres")
        return "postgresql://postgres@127.0.0.1:%d/%s" % (self.port, name)

    @contextlib.contextmanager
    def locked(self, database, table):
        """Nobody can write into @table meanwhile."""
        p = subprocess.Popen(self.user + [os.path.join(self.bin, "psql"), "-q", "-A", "-t", "-h", "127.0.0.1", "-p",
                                          str(self.port), "-U", "postgres", database], cwd=self.dir,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        p.stdin.write("BEGIN; LOCK TABLE %s IN EXCLUSIVE MODE; SELECT 'locked';\n" % table)
        p.stdin.flush()
        assert p.stdout.readline() == "locked\n"
        yield
        p.stdin.close()  # ends it, and its transaction
        p.stdout.close()
        p.wait(PATIENCE)

    def stop(self):
        if self.p.poll() is None:
            self.p.send_signal(2)
            self.p.wait(PATIENCE)
        shutil.rmtree(self.dir, ignore_errors=True)
