"""Job files: a job with its graphs in one small file, with or without its tensors.

Canonical msgpack of ``{"format": "samebits job", "version": 2, "job": <address>, "nodes": <xz>, "blobs": [bytes,
...]}``; `nodes` is the list of encoded nodes in canonical msgpack, packed by xz (LZMA2, the .xz file format). Nodes and
blobs stand in the order of their addresses, which are not written: the reader computes them. Always inside: the job,
its graphs, and the trees and tensor records that say what else is needed.
"""

from __future__ import annotations

import lzma
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from samebits.cas import (
    CasError,
    Digest,
    FileError,
    Node,
    decode_node,
    encode_node,
    hash_blob,
    read_tree,
    references,
    tensor_info,
)
from samebits.cas.digest import hash_node
from samebits.cas.encoding import Value, decode, encode
from samebits.cas.files import replacing_file
from samebits.cas.tensor import TensorInfo
from samebits.cas.tree import TREE_KIND
from samebits.exec.canonical import GRAPH_KIND, check_extent
from samebits.exec.errors import GraphError, JobError
from samebits.exec.job import JOB_KIND, Job, JobSpec, check_tensor_count

FORMAT: Final = "samebits job"
VERSION: Final = 2
MAX_FILE_SIZE_BYTES: Final = 1 << 32
MAX_NODES_SIZE_BYTES: Final = 1 << 26  # unpacked
MAX_OBJECTS: Final = 1 << 16
MAX_LENGTH: Final = 1 << 18  # of any list or map
MAX_UNPACK_MEMORY_BYTES: Final = 1 << 28
EMBED: Final = ("none", "state", "data", "all")


@dataclass(frozen=True, slots=True)
class TensorPart:
    """A tensor that a job names."""

    name: str  # "state/model/0.weight", "data/x", "evaluation/x"
    dtype: str
    shape: tuple[int, ...]
    blob: Digest
    size_bytes: int
    embedded: bool


def save_job(job: Job, path: Path | str, *, embed: str = "none") -> int:
    """Write a job file; `embed` says which tensors go into it. Returns its size in bytes."""
    if embed not in EMBED:
        raise JobError(f"embed {embed!r} is none of {', '.join(EMBED)}")
    prefixes = {"none": (), "state": ("state/",), "data": ("data/", "evaluation/"), "all": ("",)}[embed]
    wanted = {part.blob for part in list_tensors(job) if part.name.startswith(tuple(prefixes))} if prefixes else set()
    missing = sorted(str(blob) for blob in wanted if blob not in job.blobs)
    if missing:
        raise JobError(f"tensor data {missing[0]} are not at hand, so they can't be embedded")
    nodes = job.all_nodes()
    encoded = encode(
        {
            "format": FORMAT,
            "version": VERSION,
            "job": job.address,
            "nodes": _pack([encode_node(nodes[address]) for address in sorted(nodes)]),
            "blobs": [job.blobs[blob] for blob in sorted(wanted)],
        }
    )
    try:
        with replacing_file(Path(path)) as file:
            file.write(encoded)
    except FileError as error:
        raise JobError(str(error)) from error
    return len(encoded)


def load_job(path: Path | str) -> Job:
    """Read a job file; raises JobError saying what is wrong with it."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_SIZE_BYTES:
            raise JobError(f"{path}: larger than 4 GiB")
        value = decode(path.read_bytes(), MAX_LENGTH)
    except OSError as error:
        raise JobError(f"{path}: {error.strerror or error}") from error
    except CasError as error:
        raise JobError(f"{path}: not a job file: {error}") from error
    try:
        return _read(value)
    except (JobError, GraphError, CasError) as error:
        raise JobError(f"{path}: {error}") from error


def _read(value: Value) -> Job:
    match value:
        case {
            "format": "samebits job",
            "version": version,
            "job": Digest() as job,
            "nodes": nodes,
            "blobs": [*blobs],
        } if isinstance(value, dict) and len(value) == 5:
            if isinstance(version, bool) or version != VERSION:
                raise JobError(f"job file version {version!r} is not supported (want {VERSION})")
            if isinstance(nodes, bytes):
                return _assemble(job, _unpack(nodes), blobs)
    raise JobError("not a job file")


def packed_size_bytes(job: Job) -> int:
    """Return what a job takes in a file without any data: the job and its graphs, packed."""
    nodes = {address: node for address, node in job.all_nodes().items() if node.kind in (JOB_KIND, GRAPH_KIND)}
    return len(_pack([encode_node(nodes[address]) for address in sorted(nodes)]))


def _pack(nodes: list[bytes]) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME, "pb": 0}]  # bytes stand anywhere
    return lzma.compress(encode(list(nodes)), check=lzma.CHECK_CRC32, filters=filters)


def _unpack(packed: bytes) -> Collection[object]:
    """Return the encoded nodes; raises JobError for what isn't packed nodes, or unpacks to too much."""
    try:
        unpacker = lzma.LZMADecompressor(memlimit=MAX_UNPACK_MEMORY_BYTES)
        encoded = unpacker.decompress(packed, MAX_NODES_SIZE_BYTES)
    except lzma.LZMAError as error:
        raise JobError(f"the nodes can't be unpacked: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise JobError("the packed nodes are cut off, too large, or followed by something else")
    nodes = decode(encoded, MAX_LENGTH)
    if not isinstance(nodes, list):
        raise JobError("the nodes are not a list")
    return nodes


def list_tensors(job: Job) -> list[TensorPart]:
    """Return every tensor that a job names, with what is known of it; raises JobError if a tree is missing."""
    spec = job.spec
    trees = [("state", spec.state), ("data", spec.data)]
    if spec.evaluation is not None:
        trees.append(("evaluation", spec.evaluation.data))
    parts = []
    for prefix, tree in trees:
        for name, address in _read_tree(job, tree, prefix).items():
            info = _read_tensor(job, address, f"{prefix}/{name}")
            if prefix == "data" and not info.shape:
                raise JobError(f"data {name} is a scalar")
            embedded = info.blob in job.blobs
            parts.append(TensorPart(f"{prefix}/{name}", info.dtype, info.shape, info.blob, info.size_bytes, embedded))
    return parts


def _read_tree(job: Job, tree: Digest, what: str) -> dict[str, Digest]:
    node = _node(job, tree, f"tree {what}")
    if node.kind != "tree":
        raise JobError(f"{what} {tree} is a {node.kind}, not a tree")
    try:
        entries = read_tree(node)
    except CasError as error:
        raise JobError(f"{what} {tree}: {error}") from error
    if what == "data" and not entries:
        raise JobError("the job has no data")
    return entries


def _read_tensor(job: Job, address: Digest, name: str) -> TensorInfo:
    try:
        return tensor_info(_node(job, address, f"tensor {name}"))
    except CasError as error:
        raise JobError(f"{name} {address}: {error}") from error


def _assemble(job: Digest, encoded_nodes: Collection[object], blobs: Collection[object]) -> Job:
    for what, objects in (("nodes", encoded_nodes), ("blobs", blobs)):
        if len(objects) > MAX_OBJECTS:
            raise JobError(f"a job file of {len(objects)} {what}; the most is {MAX_OBJECTS}")
    nodes: dict[Digest, Node] = {}
    for encoded in encoded_nodes:
        if not isinstance(encoded, bytes):
            raise JobError("a node is not bytes")
        node = decode_node(encoded, MAX_LENGTH)
        if node.kind == GRAPH_KIND:
            check_extent(node)
        elif node.kind == TREE_KIND:
            check_tensor_count(node, "a tree")
        nodes[hash_node(encoded)] = node  # decoding has shown that it is the one encoding
    if job not in nodes:
        raise JobError(f"the job {job} itself is not in the file")
    data: dict[Digest, bytes] = {}
    for blob in blobs:
        if not isinstance(blob, bytes):
            raise JobError("a blob is not bytes")
        data[hash_blob(blob)] = blob
    spec = JobSpec.from_node(nodes.pop(job))
    loaded = Job(spec, nodes, data)
    _check_nothing_else(loaded)
    list_tensors(loaded)
    return loaded


def _check_nothing_else(job: Job) -> None:
    """Raise JobError if the file holds an object that the job does not name."""
    nodes = job.all_nodes()
    reached, pending = set[Digest](), [job.address]
    while pending:
        address = pending.pop()
        if address not in reached:
            reached.add(address)
            pending.extend(references(nodes[address]) if address in nodes else ())
    for address in (*nodes, *job.blobs):
        if address not in reached:
            raise JobError(f"object {address} does not belong to the job")
    for graph in job.spec.graphs:
        node = _node(job, graph, "graph")
        if node.kind != GRAPH_KIND:
            raise JobError(f"graph {graph} is a {node.kind}, not a graph")


def _node(job: Job, address: Digest, what: str) -> Node:
    nodes: Mapping[Digest, Node] = job.nodes
    if address not in nodes:
        raise JobError(f"{what} {address} is not in the job file")
    return nodes[address]
