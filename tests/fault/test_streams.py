# SPDX-License-Identifier: Apache-2.0
"""A bad line made by a process in between: TCP connections whose bytes come late, in gaps and bursts,
or not at all. Runs everywhere."""
import pytest

from net import Streams
from scenes import running, test_a_bad_line, test_a_cut_of_five_seconds  # noqa: F401


@pytest.fixture
def net(cleanup):
    return cleanup(Streams())
