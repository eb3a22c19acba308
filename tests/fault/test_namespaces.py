# SPDX-License-Identifier: Apache-2.0
"""A bad line between two network namespaces: the kernel's TCP at both ends. Where namespaces cannot be
made the whole file is skipped (77), and says so."""
import pytest

from net import Impossible, Namespaces
from scenes import running, test_a_bad_line, test_a_cut_of_five_seconds  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def possible():
    try:
        n = Namespaces()
    except Impossible as e:
        pytest.exit("SKIPPED, faults of packets are not tested: no network namespaces here: %s" % e,
                    returncode=77)
    print("packets go through", "tc netem" if n.netem else "wire.py (no netem in this kernel)")
    n.stop()


@pytest.fixture
def net(cleanup):
    return cleanup(Namespaces())
