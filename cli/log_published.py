"""`samebits log verify URL`: the log that somebody publishes over HTTP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import Final

from samebits.cli.log import Audited
from samebits.cli.output import CommandError
from samebits.cli.progress import count_progress
from samebits.cli.trusting import load_verifier
from samebits.ledger import LedgerError, VerifierKey
from samebits.ledger.published_log import PublishedLog, open_published_log
from samebits.ledger.tile_source import HttpSource

_MAX_WORKERS: Final = 4  # a stranger's bundle may have 16 MiB, and each worker has some waiting


def audit_url(url: str, log_key: str | None, against: Mapping[str, bytes]) -> Audited:
    """Audit the log below a URL; `log_key` is the key that it must have, or a file of it. Raises CommandError."""
    wanted = None if log_key is None else load_verifier(log_key)
    if not url.startswith(("http://", "https://")):
        raise CommandError(f"{url}: want the http(s):// URL of a log; the log of a store is verified with --store DIR")
    try:
        with closing(HttpSource(url)) as source, count_progress("log verify") as progress:
            log = _open(url, source, wanted)
            audit = log.audit(
                workers=min(os.cpu_count() or 1, _MAX_WORKERS),
                against=against,
                progress=lambda done, total: progress("entries", done, total),
            )
    except LedgerError as error:
        text = str(error)
        raise CommandError(text if url in text else f"{url}: {text}") from error
    return Audited(audit, log.log_key, lambda: log.note)


def _open(url: str, source: HttpSource, wanted: VerifierKey | None) -> PublishedLog:
    log = open_published_log(source)
    if log is None:
        raise CommandError(f"{url}: there is no log here (no log.pub and checkpoint)")
    if wanted is not None and log.log_key != wanted:
        raise CommandError(f"{url}: the log has the key {log.log_key.vkey}, not {wanted.vkey}")
    return log
