"""Runs the sandbox's Google emulator alone on loopback, with no clusters behind it. Not a test: the tests start it.

Usage (from the repository's root, with the sandbox's Python): python emulator_main.py FOLDER SPEED [PROJECT]. One JSON
line on standard output says where it listens and what a client's environment must be. Ends when standard input closes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from sandbox.gcp.backend import NullBackend
from sandbox.gcp.credentials import proxy_environment, write_credentials
from sandbox.gcp.emulator import Emulator
from sandbox.gcp.server import serve
from sandbox.gcp.tls import CertificateAuthority
from sandbox.gcp.world import World
from sandbox.paths import Paths
from sandbox.timing import Timing


def main() -> None:
    folder, speed = Path(sys.argv[1]), float(sys.argv[2])
    world = World(*sys.argv[3:4])
    emulator = Emulator(world, NullBackend(), Timing(speed))
    authority = CertificateAuthority()
    server = serve(emulator, "127.0.0.1", 0, authority=authority)
    paths = Paths("test", folder / "cache", folder / "state")
    emulator.base_url = server.url
    variables = write_credentials(world, paths, base_url=server.url, authority=authority)
    proxy = proxy_environment(paths, server.url)
    print(json.dumps({"url": server.url, "environment": variables, "proxy": proxy}), flush=True)
    sys.stdin.read()  # everything else is a daemon thread


if __name__ == "__main__":
    main()
