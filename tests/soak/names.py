#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A name server (dnspython): names.py PORT FILE. FILE: {"NAME TYPE": [record, ...]}, read again at SIGHUP."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../foreign"))
import dns_peer  # noqa: E402


def main(port, path):
    server = dns_peer.NameServer(int(port))

    def read(*_):
        with open(path) as f:
            for key, records in json.load(f).items():
                server.set(*key.split(), records)
    signal.signal(signal.SIGHUP, read)
    read()
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:3])
