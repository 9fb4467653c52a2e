"""Garbage collection of a store whose ledger a crash left unpublished."""

from __future__ import annotations

from pathlib import Path

from samebits.cas import Store
from samebits.exec.ledger_folder import log_directory
from samebits.exec.retention import collect_store
from samebits.ledger import Log, RunBody, SigningKey, sign_entry


def test_collect_store_keeps_what_a_signed_head_names(tmp_path: Path) -> None:
    """A crash between the signature and the checkpoint: the entry counts, though no reader sees it yet."""
    author = SigningKey("runner.example", bytes(32))
    with Store(tmp_path / "store") as store:
        job, garbage = store.put_blob(b"job" * 100), store.put_blob(b"garbage" * 100)
        with Log.open(log_directory(store)) as log:
            before = log.checkpoint()
            log.append([sign_entry(log.origin, None, RunBody(job, bytes(16), 10, 1, 1), author)])
        (log_directory(store) / "checkpoint").write_text(before)
        collect_store(store, grace_s=-2)
        assert store.has(job)
        assert not store.has(garbage)
        with Log.open(log_directory(store), read_only=True) as log:
            assert log.size == 1
