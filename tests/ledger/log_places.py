"""A log on a server of ours, as its clients find it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.applications import Starlette
from tests.serving import serving_app

from samebits.ledger.server import log_routes


@contextmanager
def serving_log(directory: Path) -> Iterator[str]:
    """Serve a log with uvicorn on a free port of loopback; yields the URL."""
    app = Starlette(routes=log_routes(directory))
    app.router.redirect_slashes = False
    with serving_app(app) as url:
        yield url
