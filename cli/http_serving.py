"""Running an HTTP server until it is interrupted."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from samebits.cli.output import CommandError

if TYPE_CHECKING:
    from starlette.applications import Starlette

_MAX_REQUESTS = 256  # at once; more are told to come again
_KEEP_ALIVE_S = 15


def run_server(app: Starlette, host: str, port: int, *, on_listening: Callable[[str], None] | None = None) -> None:
    """Serve on an address and print the URL; port 0 takes a free one. Raises CommandError if it can't listen.

    `on_listening` is told the address that is listened on, before the first request.
    """
    import uvicorn

    from samebits.cas.server import listen

    try:
        listener = listen(host, port)
    except OSError as error:
        raise CommandError(f"can't listen on {host} port {port}: {error.strerror or error}") from error
    address, port = listener.getsockname()[:2]
    if on_listening is not None:
        on_listening(address)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}", flush=True)

    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        server_header=False,
        limit_concurrency=_MAX_REQUESTS,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    with listener:
        Server(config).run(sockets=[listener])
