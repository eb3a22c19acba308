# SPDX-License-Identifier: Apache-2.0
"""Our client and server against grpc-js, both ways; and that against grpcio, so that the peers are
known to do what they are asked for."""
from suite import *  # noqa: F401,F403

PAIRS = [("sinew", "grpcjs"), ("grpcjs", "sinew"), ("grpcio", "grpcjs"), ("grpcjs", "grpcio")]
