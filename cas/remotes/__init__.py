"""Remotes: other places that hold objects, in one layout for a directory, an HTTP server and S3; and stores."""

from samebits.cas.remotes.opening import open_remote
from samebits.cas.remotes.protocol import Remote, read_record
from samebits.cas.remotes.store_remote import StoreRemote

__all__ = ["Remote", "StoreRemote", "open_remote", "read_record"]
