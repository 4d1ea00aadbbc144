"""The picker's process: flags, configuration, watches, servers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as rpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from sandbox.images.endpoint_picker import config, metrics, tls
from sandbox.images.endpoint_picker.datastore import Datastore
from sandbox.images.endpoint_picker.director import Director
from sandbox.images.endpoint_picker.ext_proc import Servicer
from sandbox.images.endpoint_picker.flags import FlagError, Flags, parse
from sandbox.images.endpoint_picker.kube import Cluster
from sandbox.images.endpoint_picker.logs import Logger
from sandbox.images.endpoint_picker.plugins.disaggregation import PdProfileHandler
from sandbox.images.endpoint_picker.plugins.precise import PrecisePrefixCacheScorer
from sandbox.images.endpoint_picker.scrape import Names, Scraper
from sandbox.images.endpoint_picker.watch import Watcher

# Upstream waits two minutes for its caches before it gives up; the sandbox does not.
ENV_SYNC = "LLMD_SANDBOX_PICKER_SYNC_SECONDS"
# Seconds for streams under way after SIGTERM: upstream stops its servers gracefully, and its manager waits so long.
GRACE = 30.0
ENV_BIND = "LLMD_SANDBOX_BIND"  # address all servers listen on (default: every one)
SERVICES = ("", "inference-extension", "envoy.service.ext_proc.v3.ExternalProcessor", "liveness", "readiness")

_SETUP = Logger("setup")
_LOG = Logger()


class Failure(Exception):
    """The process cannot go on; already logged."""


@dataclass
class Picker:
    """The parts of one running picker."""

    flags: Flags
    configuration: config.Configuration
    datastore: Datastore
    scraper: Scraper
    metrics: metrics.Metrics
    director: Director


def announce(flags: Flags) -> config.Configuration:
    """The first log lines, up to the parsed configuration. Raises Failure."""
    _SETUP.info("GIE build", commit_sha="", build_ref="")
    _SETUP.info("Flags processed", flags=flags.shown())
    if not flags.text("pool-name"):
        _SETUP.error("Failed to validate flags", 'either "pool-name" or "endpoint-selector" must be set')
        raise Failure
    try:
        text = flags.text("config-text") or Path(flags.text("config-file")).read_text(encoding="utf-8")
        configuration = config.load(text)
    except (OSError, config.ConfigError) as error:
        reason = f"failed to load config: {error}"
        _SETUP.error("Failed to parse configuration", reason)
        raise Failure from None
    _LOG.info("Loaded configuration", config=configuration.loaded)
    _LOG.info("Configuration with defaults set", config=configuration.completed)
    _LOG.info("loaded configuration from file/text successfully")
    if flags.switch("enable-pprof"):
        _SETUP.info("Enabling pprof handlers")
    _SETUP.info("parsed config", scheduler_config=str(configuration))
    _SETUP.info("Experimental Flow Control layer is disabled, using legacy admission control")
    return configuration


def assemble(flags: Flags, configuration: config.Configuration) -> Picker:
    """Make the parts; nothing runs yet."""
    datastore = Datastore()
    names = Names(
        waiting=flags.text("total-queued-requests-metric"),
        kv_usage=flags.text("kv-cache-usage-percentage-metric"),
        path=flags.text("model-server-metrics-path"),
        scheme=flags.text("model-server-metrics-scheme"),
        port=flags.number("model-server-metrics-port"),
        adapters=flags.text("lora-info-metric"),
    )
    scraper = Scraper(datastore, names, flags.seconds("refresh-metrics-interval"))
    handler = configuration.handler
    decisions = handler.decisions if isinstance(handler, PdProfileHandler) else None
    figures = metrics.Metrics(flags.text("pool-name"), datastore.endpoints, decisions)
    director = Director(configuration, datastore, scraper, figures)
    return Picker(flags, configuration, datastore, scraper, figures, director)


async def serve(picker: Picker, cluster: Cluster) -> None:
    """Run everything until SIGTERM (returns) or until the cluster cannot be read (raises Failure)."""
    flags = picker.flags
    _SETUP.info("ExtProc server runner added to manager.")
    _SETUP.info("Controller manager starting")
    servers = [await _health(flags), await _ext_proc(picker)]
    site = await _metrics(picker)
    checks = servers[0][1]
    heard = [
        await plugin.listen(os.environ.get(ENV_BIND) or "0.0.0.0")
        for plugin in picker.configuration.plugins.values()
        if isinstance(plugin, PrecisePrefixCacheScorer)
    ]

    async def readiness(known: bool) -> None:
        state = health_pb2.HealthCheckResponse.SERVING if known else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in SERVICES:
            await checks.set(service, state)

    await readiness(False)
    _starting("inferencepool", flags.text("pool-group"), "InferencePool")
    _starting("pod", "", "Pod")
    watcher = Watcher(
        picker.datastore,
        group=flags.text("pool-group"),
        namespace=flags.text("pool-namespace") or os.environ.get("NAMESPACE", "default"),
        pool=flags.text("pool-name"),
        readiness=readiness,
    )
    patience = float(os.environ.get(ENV_SYNC) or 15)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    async with aiohttp.ClientSession(connector=connector) as session:
        work = [
            asyncio.create_task(watcher.run(cluster, session, patience)),
            asyncio.create_task(picker.scraper.run(session)),
            asyncio.create_task(stopping.wait()),
        ]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            for socket in heard:
                socket.close()
            await asyncio.gather(*(server.stop(GRACE) for server, _ in servers))
            await site.cleanup()
    if work[2] not in done:
        raise Failure


def _starting(controller: str, group: str, kind: str) -> None:
    source = f"kind source: *v1.{kind}"
    text = "Starting EventSource"
    _LOG.info(text, controller=controller, controllerGroup=group, controllerKind=kind, source=source)


def _address(port: int) -> str:
    return f"{os.environ.get(ENV_BIND) or '[::]'}:{port}"


async def _health(flags: Flags) -> tuple[Any, Any]:
    _LOG.info("gRPC server starting", name="health")
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(_address(flags.number("grpc-health-port")))
    await server.start()
    _LOG.info("gRPC server listening", name="health", port=port)
    return server, servicer


async def _ext_proc(picker: Picker) -> tuple[Any, Any]:
    flags = picker.flags
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 * 2**20)])
    rpc.add_ExternalProcessorServicer_to_server(Servicer(picker.director, picker.metrics), server)
    address = _address(flags.number("grpc-port"))
    if flags.switch("secure-serving"):
        credentials = grpc.ssl_server_credentials([tls.key_and_certificate(flags.text("cert-path"))])
        server.add_secure_port(address, credentials)
    else:
        server.add_insecure_port(address)
    await server.start()
    return server, None


async def _metrics(picker: Picker) -> web.AppRunner:
    log = Logger("controller-runtime.metrics")
    log.info("Starting metrics server")
    guarded = picker.flags.switch("metrics-endpoint-auth")

    async def exposition(request: web.Request) -> web.Response:
        if guarded and not request.headers.get("Authorization", "").startswith("Bearer "):
            return web.Response(status=401, text="Unauthorized\n")
        return web.Response(body=picker.metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE})

    application = web.Application()
    application.router.add_get("/metrics", exposition)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    port = picker.flags.number("metrics-port")
    await web.TCPSite(runner, os.environ.get(ENV_BIND) or "0.0.0.0", port).start()
    log.info("Serving metrics server", bindAddress=f":{port}", secure=guarded)
    return runner


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM, 1 where it cannot run (it then crash-loops, as upstream's), 2 for wrong flags."""
    try:
        flags = parse(sys.argv[1:] if arguments is None else arguments)
    except FlagError as error:
        print(error, file=sys.stderr)
        return 2
    Logger.verbosity = flags.number("v")
    try:
        picker = assemble(flags, announce(flags))
        asyncio.run(serve(picker, Cluster()))
    except Failure:
        return 1
    except OSError as error:
        _SETUP.error("Failed to get Kubernetes rest config", error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
