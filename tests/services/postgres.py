#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of a test's own, in a folder that is thrown away.

usage: postgres.py -- COMMAND   start it, run the command with TEST_POSTGRES (options of the driver as
                                JSON), TEST_POSTGRES_DSN (the same for libpq) and TEST_POSTGRES_DATA
                                (its folder) in the environment, stop it;
                                77 when it cannot be had

It listens on loopback, on a port that was free, trusts whoever connects, and does not wait for the disk
(fsync is off, unless TEST_POSTGRES_FSYNC is set): what it has acknowledged survives kill -9, not a loss
of power. PostgreSQL refuses to run as root: then it runs as
`postgres`, or `nobody`.
"""
import contextlib
import glob
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from services import Missing, free_ports


def binaries():
    """The folder of initdb and postgres. Missing."""
    found = shutil.which("initdb")
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    folders += [os.path.dirname(os.path.realpath(found))] if found else []
    for folder in folders:
        if all(os.path.exists(os.path.join(folder, name))
               for name in ("initdb", "postgres", "pg_isready", "psql")):
            return folder
    raise Missing("PostgreSQL is missing")


def user():
    """Who it runs as: None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Missing("there is no user for PostgreSQL")


def children(parent):
    """Of a process; PostgreSQL's have sessions of their own."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open("/proc/%s/stat" % name) as f:
            if int(f.read().rsplit(")", 1)[1].split()[1]) == parent:
                found.append(int(name))
    return found


class Postgres:
    """A server. start(), stop(), kill() (-9), and start() again on the same port."""

    def __init__(self, settings=()):
        self.bin = binaries()
        self.user = user()
        self.folder = tempfile.mkdtemp(prefix="sinew-pg-")
        self.data = os.path.join(self.folder, "data")
        self.process = None
        self.port = free_ports(1)[0]
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        try:
            self.run("initdb", "-D", self.data, "-U", "sinew", "-A", "trust", "-E", "UTF8",
                     "--locale=C", "--no-sync", "--no-instructions")
            with open(os.path.join(self.data, "postgresql.conf"), "a") as f:
                f.write("listen_addresses = '127.0.0.1'\nport = %d\nshared_buffers = 16MB\n"
                        "unix_socket_directories = '%s'\nmax_connections = 60\n"
                        "logging_collector = off\n" % (self.port, self.folder))
                if "TEST_POSTGRES_FSYNC" not in os.environ:
                    f.write("fsync = off\nfull_page_writes = off\n")
                for line in settings:
                    f.write(line + "\n")
        except BaseException:
            self.close()
            raise

    def command(self, name, *args):
        argv = [os.path.join(self.bin, name), *args]
        if self.user:
            argv = ["setpriv", "--reuid=%d" % self.user.pw_uid, "--regid=%d" % self.user.pw_gid,
                    "--clear-groups", "--", *argv]
        return argv

    def run(self, name, *args):
        r = subprocess.run(self.command(name, *args), cwd=self.folder, capture_output=True,
                           text=True, timeout=60, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
        if r.returncode != 0:
            raise RuntimeError("%s: %s" % (name, r.stderr.strip()[-500:]))
        return r.stdout

    def start(self):
        log = open(os.path.join(self.folder, "log"), "a")
        self.process = subprocess.Popen(
            self.command("postgres", "-D", self.data), cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C"})
        log.close()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            r = subprocess.run([os.path.join(self.bin, "pg_isready"), "-q", "-h", "127.0.0.1",
                                "-p", str(self.port)])
            if r.returncode == 0:
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        with open(os.path.join(self.folder, "log")) as f:
            raise RuntimeError("PostgreSQL does not start: " + f.read()[-500:])

    def stop(self):
        """At once, but in order."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(30)
            self.process = None

    def kill(self):
        """Like a machine that loses its power: all of its processes."""
        if self.process:
            pids = [self.process.pid, *children(self.process.pid)]
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.data, "postmaster.pid"))

    def close(self):
        with contextlib.suppress(Exception):
            self.stop()
        if self.process:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def options(self, **more):
        """Of the driver, as JSON."""
        return json.dumps({"host": "127.0.0.1", "port": self.port, "user": "sinew",
                           "database": "postgres", **more})

    def sql(self, text):
        """By psql, which is not ours."""
        return self.run("psql", "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(self.port),
                        "-U", "sinew", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", text).strip()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()


def main():
    if sys.argv[1:2] != ["--"] or len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        server = Postgres()
    except Missing as e:
        print("skipped: %s" % e)
        sys.exit(77)
    with server:
        env = dict(os.environ, TEST_POSTGRES=server.options(), TEST_POSTGRES_DATA=server.data,
                   TEST_POSTGRES_DSN="host=127.0.0.1 port=%d user=sinew dbname=postgres"
                   % server.port)
        sys.exit(subprocess.run(sys.argv[2:], env=env).returncode)


if __name__ == "__main__":
    main()
