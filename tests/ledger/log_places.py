"""A log on a server of ours, as its clients find it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from samebits.cas.server import listen
from samebits.ledger.server import log_routes


@contextmanager
def serving_log(directory: Path) -> Iterator[str]:
    """Serve a log with uvicorn on a free port of loopback; yields the URL."""
    listener = listen("127.0.0.1", 0)
    app = Starlette(routes=log_routes(directory))
    app.router.redirect_slashes = False
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()
