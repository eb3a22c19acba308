# SPDX-License-Identifier: Apache-2.0
"""Waiting for what others do: as long as it takes on a slow machine, and no longer than until it has happened."""
import os
import time

PATIENCE = float(os.environ.get("SINEW_TEST_PATIENCE", "60"))


def until(holds, what="it does not come true", patience=PATIENCE):
    """Asks again until it holds; what it returned then. @what: words for when it does not, or what gives them."""
    end = time.monotonic() + patience
    while True:
        got = holds()
        if got:
            return got
        assert time.monotonic() < end, what() if callable(what) else what
        time.sleep(0.01)
