# SPDX-License-Identifier: Apache-2.0
"""What happens to the line between sinew and its peers: imported by the files that have a line."""
import pytest

from fault import LONG, Floor, Load, Peer, Sinew

SECONDS = 20 if LONG else 1
BAD = {
    "delay": {"delay_ms": 40, "jitter_ms": 20},
    "loss": {"delay_ms": 5, "loss": 0.05},
    "reordering": {"delay_ms": 10, "jitter_ms": 2, "reorder": 0.25},
}
if LONG:
    BAD["heavy loss"] = {"delay_ms": 20, "jitter_ms": 10, "loss": 0.3}
    BAD["far away"] = {"delay_ms": 400, "jitter_ms": 50}
    BAD["all"] = {"delay_ms": 30, "jitter_ms": 25, "loss": 0.1, "reorder": 0.3}


@pytest.fixture
def running(tmp_path, net, cleanup):
    peers = [cleanup(Peer(net)), cleanup(Peer(net))]
    return cleanup(Sinew(tmp_path, peers, net))


def warm(sinew):
    """The floor is what is left after a first round."""
    Load(sinew).run(0.3).end()
    return Floor(sinew)


@pytest.mark.parametrize("how", list(BAD))
def test_a_bad_line(running, net, how):
    floor = warm(running)
    net.set(**BAD[how])
    load = Load(running).run(SECONDS)
    load.end()
    assert load.answered > 0
    net.set()
    Load(running).run(0.3).end()
    floor.after(descriptors_more=16)  # kept connections


def test_a_cut_of_five_seconds(running, net):
    floor = warm(running)
    load = Load(running).run(0.5)
    for _ in range(3 if LONG else 1):
        before = load.answered
        assert before > 0
        net.set(cut=True)
        load.run(5)
        assert len(load.failed) + len(load.broken) > 0, "nothing was cut"
        net.set()
        again_s = load.answers_again()
        print("answers again %.2f s after the cut" % again_s, flush=True)
        load.run(1)
    load.end()
    calm = Load(running).run(0.3).end()
    assert calm.answered > 0
    floor.after(descriptors_more=16)
