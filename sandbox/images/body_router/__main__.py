"""The body-based router's process: flags, servers and, in its later generation, the watch of ConfigMaps."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as rpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from sandbox.images.body_router import models
from sandbox.images.body_router.ext_proc import Servicer
from sandbox.images.body_router.metrics import CONTENT_TYPE, Metrics
from sandbox.images.endpoint_picker import generation, tls
from sandbox.images.endpoint_picker.flags import FlagError, Flags, read
from sandbox.images.endpoint_picker.kube import Cluster, Items, Resource
from sandbox.images.endpoint_picker.logs import Logger

ENV_BIND = "LLMD_SANDBOX_BIND"  # address all servers listen on (default: every one)
SERVICES = ("", "bbr", "envoy.service.ext_proc.v3.ExternalProcessor")
DEFAULTS: dict[str, Any] = {
    "grpc-port": 9004,
    "grpc-health-port": 9005,
    "metrics-port": 9090,
    "metrics-endpoint-auth": True,
    "streaming": False,
    "secure-serving": True,
    "tracing": True,
    "kubeconfig": "",
    "v": 2,
    "zap-devel": True,
    "zap-encoder": "console",
    "zap-log-level": "",
    "zap-stacktrace-level": "",
    "zap-time-encoding": "",
}
_SETUP = Logger("setup")
_LOG = Logger()


def _address(port: int) -> str:
    return f"{os.environ.get(ENV_BIND) or '[::]'}:{port}"


async def serve(flags: Flags, cluster: Cluster | None) -> None:
    """Run everything until SIGTERM. ``cluster`` None: the generation that reads no ConfigMaps."""
    figures, known = Metrics(), models.Models()
    checks = health.aio.HealthServicer()
    servers = [
        await _health(flags, checks),
        await _ext_proc(flags, None if cluster is None else known, figures),
    ]
    site = await _metrics(flags, figures)
    for service in SERVICES:
        await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with aiohttp.ClientSession() as session:
        watching = None if cluster is None else asyncio.create_task(_watch(cluster, session, known))
        await stopping.wait()
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    await asyncio.gather(*(server.stop(0.3) for server in servers))
    await site.cleanup()


async def _health(flags: Flags, checks: Any) -> Any:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    port = server.add_insecure_port(_address(flags.number("grpc-health-port")))
    await server.start()
    _LOG.info("gRPC server listening", name="health", port=port)
    return server


async def _ext_proc(flags: Flags, known: models.Models | None, figures: Metrics) -> Any:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 * 2**20)])
    base_of = None if known is None else known.base_of
    servicer = Servicer(base_of, figures, streaming=flags.switch("streaming"))
    rpc.add_ExternalProcessorServicer_to_server(servicer, server)
    address = _address(flags.number("grpc-port"))
    if flags.switch("secure-serving"):
        server.add_secure_port(address, grpc.ssl_server_credentials([tls.key_and_certificate("")]))
    else:
        server.add_insecure_port(address)
    await server.start()
    _LOG.info("gRPC server listening", name="ext-proc", port=flags.number("grpc-port"))
    return server


async def _metrics(flags: Flags, figures: Metrics) -> web.AppRunner:
    guarded = flags.switch("metrics-endpoint-auth")

    async def exposition(request: web.Request) -> web.Response:
        if guarded and not request.headers.get("Authorization", "").startswith("Bearer "):
            return web.Response(status=401, text="Unauthorized\n")
        return web.Response(body=figures.exposition(), headers={"Content-Type": CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/metrics", exposition)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, os.environ.get(ENV_BIND) or "0.0.0.0", flags.number("metrics-port")).start()
    return runner


async def _watch(cluster: Cluster, session: aiohttp.ClientSession, known: models.Models) -> None:
    """Follow the ConfigMaps of the pod's namespace (of all of them where it is not told one)."""
    namespace = os.environ.get("NAMESPACE")
    path = f"/api/v1/namespaces/{namespace}/configmaps" if namespace else "/api/v1/configmaps"

    def change(name: str, item: Mapping[str, Any] | None) -> None:
        entry = None
        if item is not None and models.managed(item):
            try:
                entry = models.read(item)
            except models.Malformed as error:
                _LOG.error("failed to parse configmap", error, configmap=name)
        known.put(name, entry)

    def replace(items: Items) -> None:
        known.entries.clear()
        for name, item in items.items():
            change(name, item)

    await cluster.follow(session, Resource(path, "*v1.ConfigMap"), replace, change, asyncio.Event())


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM, 1 where it cannot run, 2 for wrong flags."""
    try:
        flags = read(sys.argv[1:] if arguments is None else arguments, DEFAULTS)
    except FlagError as error:
        print(error, file=sys.stderr)
        return 2
    Logger.verbosity = flags.number("v")
    _SETUP.info("Flags processed", flags=flags.shown())
    try:
        asyncio.run(serve(flags, Cluster() if generation.later() else None))
    except OSError as error:
        _SETUP.error("Failed to get Kubernetes rest config", error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
