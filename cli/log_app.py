"""All commands of `samebits log`."""

from __future__ import annotations

from samebits.cli import log, log_search

log_search.add_commands(log.app)
app = log.app
