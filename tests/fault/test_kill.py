# SPDX-License-Identifier: Apache-2.0
"""kill -9 of peers, of the agent, of the collector, and of sinew itself."""
import json
import signal
import socket
import subprocess
import threading
import time

from fault import BINARY, LONG, PATIENCE, Floor, Load, Peer, Sinew, free_port, wait_until

ROUNDS = 20 if LONG else 2


def test_peers_are_killed_and_come_back(tmp_path, cleanup):
    peers = [cleanup(Peer()), cleanup(Peer())]
    sinew = cleanup(Sinew(tmp_path, peers))
    Load(sinew).run(0.5).end()
    floor = Floor(sinew)
    load = Load(sinew)
    for i in range(ROUNDS):
        load.run(0.3)
        peers[i % 2].kill()
        load.run(0.4)
        load.answers_again()  # by the other one
        peers[i % 2].start()
        load.run(0.2)
    load.end()
    assert load.answered > 10 * (len(load.failed) + len(load.broken)), "the other one should do"
    floor.after(descriptors_more=16)


def test_all_peers_are_killed(tmp_path, cleanup):
    peer = cleanup(Peer())
    sinew = cleanup(Sinew(tmp_path, [peer]))
    Load(sinew).run(0.3).end()
    floor = Floor(sinew)
    load = Load(sinew).run(0.3)
    peer.kill()
    load.run(0.7)
    assert load.failed
    peer.start()
    load.answers_again()
    load.end()
    floor.after(descriptors_more=16)


class Agent:
    """`sinew agent`, in a process to be killed."""

    def __init__(self, tmp):
        self.mesh = tmp / "mesh.yaml"
        self.port = free_port()
        self.url = "ws://127.0.0.1:%d/t-1" % self.port

    def serve(self, *ports):
        self.mesh.write_text(json.dumps({
            "services": {"app": {"endpoints": {"web": ["127.0.0.1:%d" % p for p in ports]}}},
            "tasks": {"t-1": {"service": "app", "identity": "1"}}}))
        return self

    def start(self):
        self.p = subprocess.Popen([BINARY, "agent", "--listen", "127.0.0.1:%d" % self.port, "--mesh",
                                   str(self.mesh)], stderr=subprocess.DEVNULL)
        return self

    def kill(self):
        self.p.kill()
        self.p.wait()

    stop = kill


def test_the_agent_is_killed(tmp_path, cleanup):
    old, new = cleanup(Peer()), cleanup(Peer())
    agent = cleanup(Agent(tmp_path).serve(old.port).start())
    sinew = cleanup(Sinew(tmp_path, config="agent: {url: '%s', ping: 1s}\n" % agent.url))
    wait_until(lambda: sinew.get("/readyz")[0] == 200, "never ready")
    Load(sinew).run(0.3).end()
    floor = Floor(sinew)
    load = Load(sinew)
    for _ in range(ROUNDS // 2):
        agent.kill()
        load.run(0.5)
        assert not load.failed, "what was known is used on"
        agent.serve(new.port).start()
        wait_until(lambda p=new.port: str(p) in sinew.get("/peers/service/app/web")[1], "not heard of")
        old, new = new, old
        new.kill()  # not a peer any more
        load.run(0.3)
        new.start()
    load.end()
    assert len(load.failed) + len(load.broken) <= 8, "only what was under way at the old one"
    floor.after(descriptors_more=16)


def spans_at(collector):
    with socket.create_connection(("127.0.0.1", collector.port), PATIENCE) as s:
        s.sendall(b"GET /spans HTTP/1.1\r\n\r\n")
        return int(s.recv(4096).rsplit(b"\r\n", 1)[1])


def test_the_collector_is_killed(tmp_path, cleanup):
    peer, collector = cleanup(Peer()), cleanup(Peer())
    sinew = cleanup(Sinew(tmp_path, [peer], policies={
        "enable-zipkin": True, "zipkin-endpoint": "http://127.0.0.1:%d/api/v2/spans" % collector.port}))
    load = Load(sinew).run(0.5)
    wait_until(lambda: spans_at(collector) > 0, "no span came")
    load.end()
    floor = Floor(sinew)
    load = Load(sinew)
    for _ in range(ROUNDS // 2):
        collector.kill()
        load.run(1)
        collector.start()
        wait_until(lambda: spans_at(collector) > 0, "no span came after it was back", 3 * PATIENCE)
    load.end()
    assert not load.failed and not load.broken, "calls do not depend on it"
    floor.after(descriptors_more=16)


def test_a_collector_that_hangs(tmp_path, cleanup):
    peer = cleanup(Peer())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sinew = cleanup(Sinew(tmp_path, [peer], policies={
            "enable-zipkin": True,
            "zipkin-endpoint": "http://127.0.0.1:%d/api/v2/spans" % silent.getsockname()[1]}))
        Load(sinew).run(0.3).end()
        floor = Floor(sinew)
        load = Load(sinew).run(10 if LONG else 1.5).end()
        assert not load.failed and not load.broken
        floor.after(descriptors_more=16)


def test_sinew_is_killed_and_started_again(tmp_path, cleanup):
    sinew = cleanup(Sinew(tmp_path, [cleanup(Peer())]))
    Load(sinew).run(0.2).end()
    sinew.p.send_signal(signal.SIGKILL)
    sinew.p.wait()
    sinew.start()  # on the sockets the former one left
    assert Load(sinew).run(0.3).end().answered > 0


def test_sigterm_under_load(tmp_path, cleanup):
    """What is under way is answered; what comes then is refused or not connected at all."""
    sinew = Sinew(tmp_path, [cleanup(Peer())])
    load = Load(sinew, kinds=("small",)).run(0.5)
    stopper = threading.Thread(target=sinew.stop)
    stopper.start()
    start = time.monotonic()
    stopper.join(PATIENCE)
    assert not stopper.is_alive() and sinew.p.returncode == 0
    load.stopping.set()
    for t in load.threads:
        t.join(PATIENCE)
    assert load.answered > 0 and not load.broken
    cut = [w for w in load.wrong if not any(e in w for e in (
        "ConnectionRefused", "FileNotFound", "RemoteDisconnected", "BrokenPipe", "ConnectionReset"))]
    assert not cut, cut[:5]
    print("ended in %.2f s" % (time.monotonic() - start))
