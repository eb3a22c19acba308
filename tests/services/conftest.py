# SPDX-License-Identifier: Apache-2.0
"""The servers' own tests."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fixtures import dynalite, etcd, fault_proxy, kinesalite, sdk, swift  # noqa: E402,F401
