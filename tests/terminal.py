# SPDX-License-Identifier: Apache-2.0
"""Programs that people type to."""
import os
import pty
import select
import time

PATIENCE = float(os.environ.get("SINEW_TEST_PATIENCE", "60"))


class Terminal:
    """A program at a terminal, driven key by key."""

    def __init__(self, *command, **env):
        self.shown = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(dict({"TERM": "dumb", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}, **env))
            os.execvp(command[0], command)

    def until(self, text):
        """What is shown up to and with @text; the rest is for the next time."""
        wanted, end = text.encode(), time.monotonic() + PATIENCE
        while wanted not in self.shown:
            ready = select.select([self.fd], [], [], max(end - time.monotonic(), 0))[0]
            assert ready, "never shown: %r in %r" % (text, self.shown)
            self.shown += os.read(self.fd, 4096)
        at = self.shown.index(wanted) + len(wanted)
        seen, self.shown = self.shown[:at], self.shown[at:]
        return seen.decode(errors="replace")

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        """Its exit status, once it ends by itself."""
        while True:
            try:
                if not os.read(self.fd, 4096):
                    break
            except OSError:
                break
        _, status = os.waitpid(self.pid, 0)
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def stop(self):
        os.close(self.fd)
        if self.pid is not None:
            os.waitpid(self.pid, 0)
