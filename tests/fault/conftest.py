# SPDX-License-Identifier: Apache-2.0
import pytest


@pytest.fixture
def cleanup():
    things = []

    def add(thing):
        things.append(thing)
        return thing
    yield add
    for t in reversed(things):
        t.stop()
