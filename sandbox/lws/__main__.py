"""The controller's process: ``/manager --leader-elect --zap-log-level=2`` as the chart calls it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

import requests

from sandbox.gke.kubeapi import ApiError
from sandbox.lws import certificate, incluster, server
from sandbox.lws.controller import Controller

WEBHOOK_PORT, PROBE_PORT = 9443, 8081
SECRET, SERVICE = "lws-webhook-server-cert", "lws-webhook-service"
ENV_PATIENCE = "LLMD_SANDBOX_LWS_SYNC_SECONDS"  # how long to try to reach the API server (default 60)

log = logging.getLogger("lws")


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="manager", allow_abbrev=False)
    parser.add_argument("--leader-elect", action="store_true", help="taken; one replica is the chart's default")
    parser.add_argument("--zap-log-level", default="2")
    parser.add_argument("--config", default="")
    parser.add_argument("--feature-gates", default="")
    return parser.parse_args(words)


def _prepare(client: incluster.PodClient, namespace: str) -> certificate.Pair:
    """Certificate and trust; tries again while the API server is not to be reached."""
    deadline = time.monotonic() + float(os.environ.get(ENV_PATIENCE) or 60)
    while True:
        try:
            pair = certificate.ensure(client, namespace, SECRET, SERVICE)
            certificate.trust(client, pair)
            return pair
        except (requests.RequestException, ApiError) as error:
            if time.monotonic() > deadline or (isinstance(error, ApiError) and error.code in (401, 403)):
                raise
            log.info("waiting for the API server: %s", error)
            time.sleep(0.5)


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM, 1 where the cluster cannot be worked with."""
    _arguments(sys.argv[1:] if words is None else words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s\t%(levelname)s\t%(name)s\t%(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        account = incluster.account()
        client = incluster.PodClient(account)
        pair = _prepare(client, account.namespace)
    except (OSError, ApiError) as error:
        log.error("unable to start manager: %s", error)
        return 1
    stops = [server.serve("0.0.0.0", WEBHOOK_PORT, pair.context()), server.serve("0.0.0.0", PROBE_PORT)]
    controller = Controller(client)
    controller.start()
    log.info("starting manager")
    stopping.wait()
    controller.stop()
    for stop in stops:
        stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
