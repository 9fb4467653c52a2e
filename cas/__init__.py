"""Content-addressed store: Digest, canonical encoding, LMDB store, tensors, trees and weight files."""

from samebits.cas.compact import CompactReport, compact
from samebits.cas.diff import Diff, Difference, diff
from samebits.cas.digest import Digest, hash_blob, hash_node
from samebits.cas.directories import StoredDirectory, StoredEntry, get_directory, put_directory
from samebits.cas.errors import (
    CasError,
    DamagedObjectError,
    DigestFormatError,
    DigestMismatchError,
    EncodingError,
    FileError,
    FileFormatError,
    NodeError,
    ObjectKindError,
    ObjectNotFoundError,
    PathError,
    RemoteError,
    StoreBusyError,
    StoreError,
    StoreFullError,
)
from samebits.cas.export import Exported, export
from samebits.cas.files import StoredFile, get_file, put_file
from samebits.cas.fsck import FsckReport, Problem, fsck, quarantine
from samebits.cas.gc import GcReport, collect_garbage
from samebits.cas.node import Node, decode_node, encode_node, node_address, references
from samebits.cas.paths import Resolved, resolve
from samebits.cas.ranges import RangeChecker, read_range, subtree_values
from samebits.cas.reachable import Damage, check_objects, reachable
from samebits.cas.records import ObjectInfo
from samebits.cas.remotes import Remote, open_remote
from samebits.cas.store import Store
from samebits.cas.tensor import TensorInfo, get_tensor, put_tensor, tensor_address, tensor_info, tensor_node
from samebits.cas.transfer import TransferReport, clone, pull, push
from samebits.cas.tree import get_tree, put_tree, read_tree, tree_address, tree_node

__all__ = [
    "CasError",
    "CompactReport",
    "Damage",
    "DamagedObjectError",
    "Diff",
    "Difference",
    "Digest",
    "DigestFormatError",
    "DigestMismatchError",
    "EncodingError",
    "Exported",
    "FileError",
    "FileFormatError",
    "FsckReport",
    "GcReport",
    "Node",
    "NodeError",
    "ObjectInfo",
    "ObjectKindError",
    "ObjectNotFoundError",
    "PathError",
    "Problem",
    "RangeChecker",
    "Remote",
    "RemoteError",
    "Resolved",
    "Store",
    "StoreBusyError",
    "StoreError",
    "StoreFullError",
    "StoredDirectory",
    "StoredEntry",
    "StoredFile",
    "TensorInfo",
    "TransferReport",
    "check_objects",
    "clone",
    "collect_garbage",
    "compact",
    "decode_node",
    "diff",
    "encode_node",
    "export",
    "fsck",
    "get_directory",
    "get_file",
    "get_tensor",
    "get_tree",
    "hash_blob",
    "hash_node",
    "node_address",
    "open_remote",
    "pull",
    "push",
    "put_directory",
    "put_file",
    "put_tensor",
    "put_tree",
    "quarantine",
    "reachable",
    "read_range",
    "read_tree",
    "references",
    "resolve",
    "subtree_values",
    "tensor_address",
    "tensor_info",
    "tensor_node",
    "tree_address",
    "tree_node",
]
