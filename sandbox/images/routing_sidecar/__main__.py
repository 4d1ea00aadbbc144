"""The sidecar's process: flags, TLS where it is asked for, and the proxy until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from sandbox.images.endpoint_picker import generation, tls
from sandbox.images.endpoint_picker.flags import FlagError, Flags
from sandbox.images.endpoint_picker.logs import Logger
from sandbox.images.routing_sidecar.flags import parse
from sandbox.images.routing_sidecar.proxy import Proxy, Settings

ENV_BIND = "LLMD_SANDBOX_BIND"  # address to listen on, and to find vLLM at (default: every one, localhost)
_LOG = Logger("setup")


def _context(folder: str) -> ssl.SSLContext:
    """TLS with the certificate of a folder, or a fresh one."""
    key, certificate = tls.key_and_certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "pair.pem"
        file.touch(0o600)
        file.write_bytes(key + certificate)
        context.load_cert_chain(file)
    return context


async def serve(flags: Flags) -> None:
    """Until SIGTERM or SIGINT."""
    bind = os.environ.get(ENV_BIND)
    scheme = "https" if flags.switch("decoder-use-tls") else "http"
    settings = Settings(
        decoder=f"{scheme}://{bind or 'localhost'}:{flags.text('vllm-port')}",
        prefiller_scheme="https" if flags.switch("prefiller-use-tls") else "http",
        fallback=generation.later(),
        sampling=flags.switch("enable-prefiller-sampling"),
    )
    runner = web.AppRunner(
        Proxy(settings).application(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
    )
    await runner.setup()
    context = _context(flags.text("cert-path")) if flags.switch("secure-proxy") else None
    port = int(flags.text("port"))
    await web.TCPSite(runner, bind or "0.0.0.0", port, ssl_context=context).start()
    _LOG.info("starting", addr=f"[::]:{port}", connector=flags.text("connector"), decoder=settings.decoder)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after SIGTERM, 2 for wrong flags."""
    try:
        flags = parse(sys.argv[1:] if arguments is None else arguments)
    except FlagError as error:
        print(error, file=sys.stderr)
        return 2
    Logger.verbosity = max(1, flags.number("v"))
    asyncio.run(serve(flags))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
