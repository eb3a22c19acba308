# SPDX-License-Identifier: Apache-2.0
"""Our client and server against Python's grpcio, both ways, and against each other."""
from suite import *  # noqa: F401,F403

PAIRS = [("sinew", "grpcio"), ("grpcio", "sinew"), ("sinew", "sinew")]
