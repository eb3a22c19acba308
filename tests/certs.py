# SPDX-License-Identifier: Apache-2.0
"""Certificates by openssl: keys of P-256, good for two days. NAME.pem and NAME.key in @folder."""
import os
import subprocess

NAMES = "DNS:localhost,IP:127.0.0.1"
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(folder, *args):
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)


def _paths(folder, name):
    return tuple(os.path.join(str(folder), name + end) for end in (".pem", ".key"))


def alone(folder, name="cert", subject="localhost", names=NAMES):
    """Signed by itself: (certificate, key)."""
    openssl(folder, "req", "-x509", *EC, "-days", "2", "-subj", "/CN=" + subject, "-addext",
            "subjectAltName=" + names, "-keyout", name + ".key", "-out", name + ".pem")
    return _paths(folder, name)


def authority(folder, name="ca"):
    openssl(folder, "req", "-x509", *EC, "-days", "2", "-subj", "/CN=" + name, "-addext",
            "basicConstraints=critical,CA:TRUE", "-keyout", name + ".key", "-out", name + ".pem")
    return _paths(folder, name)


def leaf(folder, name, ca="ca", names=NAMES):
    """Of an authority: (certificate, key), for servers and clients."""
    with open(os.path.join(str(folder), name + ".ext"), "w") as f:
        f.write("subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n" % names)
    openssl(folder, "req", *EC, "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".csr")
    openssl(folder, "x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key",
            "-CAcreateserial", "-days", "2", "-extfile", name + ".ext", "-out", name + ".pem")
    return _paths(folder, name)
