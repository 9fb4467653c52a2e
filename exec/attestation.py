"""What a run or a verdict says, as in-toto statements: SLSA provenance v1 and test-result v0.1. See ledger/README.md.

A verdict is a test of a result: the steps were computed again, and every commit was the same or one was not. SLSA's
summary attestation (VSA) would say which SLSA level an artifact has by which policy, which a replay does not look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from blake3 import blake3

from samebits.cas import Digest, Store, get_tree, hash_blob
from samebits.cas.digest import hash_node
from samebits.cas.tensor import tensor_info
from samebits.exec.devices.kernel_source import KERNEL_KIND
from samebits.exec.errors import RunError
from samebits.exec.job import JobSpec
from samebits.ledger import Entry, RunChain, VerdictBody, encode_entry
from samebits.ledger.intoto import BLAKE3, NODE, SHA256, Resource, Statement

PROVENANCE: Final = "https://slsa.dev/provenance/v1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
BUILD_TYPE: Final = "https://samebits.local/attestation/run/v1"
AUTHOR_URI: Final = "https://samebits.local/author/"  # and the public key in hex
AUTHOR: Final = "samebits_author"  # annotation of an entry: its author's public key in hex
NODE_MEDIA_TYPE: Final = "application/x.samebits-node+msgpack"
_END_OF_RFC3339_S: Final = 253_402_300_800  # the year 10000


def run_statement(chain: RunChain, store: Store) -> Statement:
    """Return the provenance of a run's final state: the job and all it names are the dependencies.

    Digests of what is not in the store are its addresses alone. Raises RunError for a run without a segment.
    """
    if not chain.segments:
        raise RunError(f"run {chain.run_address} has no finished segment yet")
    segments = [segment.body for segment in chain.segments]
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"job": str(chain.job), "steps": segments[-1].stop_step, **_first_step(chain)},
            "internalParameters": {
                "commitEvery": chain.body.commit_every,
                "checkpointEvery": chain.body.checkpoint_every,
                "devices": list(dict.fromkeys(segment.device for segment in segments)),
            },
            "resolvedDependencies": [one.to_json() for one in _dependencies(chain, store)],
        },
        "runDetails": {
            "builder": {"id": author_uri(chain.author)},
            "metadata": {"invocationId": str(chain.run_address), **_times(chain)},
            "byproducts": [one.to_json() for one in _byproducts(chain, store)],
        },
    }
    return Statement(_tree(store, "state", segments[-1].state_out), PROVENANCE, predicate)


def _first_step(chain: RunChain) -> dict[str, Any]:
    """Return where a run begins that goes on from a state of another, which is a dependency; nothing for others."""
    return {"firstStep": chain.body.first_step} if chain.body.first_step else {}


def _times(chain: RunChain) -> dict[str, str]:
    """Return when the run began and when its last segment was done, as the author's entries claim."""
    times = {"startedOn": chain.run.time, "finishedOn": chain.segments[-1].entry.time}
    return {
        name: datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for name, time_s in times.items()
        if time_s is not None and time_s < _END_OF_RFC3339_S
    }


def verdict_statement(index: int, entry: Entry, chain: RunChain | None, store: Store) -> Statement:
    """Return the test result of the state that a verdict is about; `index` is the verdict's in its log.

    Without the run's chain (it may be in another log), or for a verdict that ends within a segment, the subject is the
    entry of the last segment checked.
    """
    body, prev = entry.body, entry.prev
    if not isinstance(body, VerdictBody) or prev is None:
        raise RunError(f"a {entry.kind} is no verdict")
    name = f"replay of steps {body.first_step}:{body.stop_step}"
    if body.sample is not None:
        count = len(body.sample.segments)
        name = f"replay of {count} drawn segments of steps {body.first_step}:{body.stop_step}, not of the others"
    if body.result == "different":
        name += f": step {body.first_different_step} is the first that differs"
    run, last = Resource("run", {NODE: str(body.run)}), Resource("last-segment", {NODE: str(prev)})
    subjects: tuple[Resource, ...] = (last,)
    job: tuple[Resource, ...] = ()
    if chain is not None:
        run = _entry_resource("run", chain.run_index, chain.run)
        job = (_object(store, "job", chain.job),)
        for segment in chain.segments:
            if segment.address == prev:
                last = _entry_resource("last-segment", segment.index, segment.entry)
                reached = segment.body.stop_step == body.stop_step
                subjects = _tree(store, "state", segment.body.state_out) if reached else (last,)
    verdict = _entry_resource("verdict", index, entry, {"samebits_device": body.device})
    configuration = [verdict, run, last, *job]
    same = body.result == "same"
    predicate = {
        "result": "PASSED" if same else "FAILED",
        "configuration": [one.to_json() for one in configuration],
        "passedTests": [name] if same else [],
        "warnedTests": [],
        "failedTests": [] if same else [name],
    }
    return Statement(subjects, TEST_RESULT, predicate)


def author_uri(public: bytes) -> str:
    """Return the URI of an author, SLSA's builder.id."""
    return AUTHOR_URI + public.hex()


def _dependencies(chain: RunChain, store: Store) -> list[Resource]:
    """Return the job, its graphs, its data and initial state with their tensors, and the kernels that ran."""
    found = [_object(store, "job", chain.job)]
    if chain.body.parent is not None:
        found.append(Resource("parent-run", {NODE: str(chain.body.parent)}))
    if store.has(chain.job):
        spec = JobSpec.from_node(store.get_node(chain.job))
        graphs = {"step": spec.step, "init": spec.init, "schedule": spec.schedule}
        trees = {"initial-state": spec.state, "data": spec.data}
        if spec.evaluation is not None:
            graphs["evaluation"] = spec.evaluation.graph
            trees["evaluation-data"] = spec.evaluation.data
        found += [_object(store, f"graph/{name}", graph) for name, graph in graphs.items() if graph is not None]
        for name, tree in trees.items():
            found += _tree(store, name, tree)
    kernels = dict.fromkeys(kernel for segment in chain.segments for kernel in segment.body.kernels)
    for number, kernel in enumerate(kernels):
        found += _kernel(store, f"kernel/{number}", kernel)
    return found


def _byproducts(chain: RunChain, store: Store) -> list[Resource]:
    """Return the run's entry, its last one, and the commits of each segment."""
    last = chain.segments[-1]
    found = [
        _entry_resource("entry/run", chain.run_index, chain.run),
        _entry_resource("entry/last", last.index, last.entry),
    ]
    for segment in chain.segments:
        body = segment.body
        found.append(_object(store, f"commits/{body.first_step}:{body.stop_step}", body.commits))
    return found


def _object(store: Store, name: str, digest: Digest) -> Resource:
    """Return a node: its address, and the plain hashes of its canonical encoding where the store has it."""
    hashes = {NODE: str(digest)}
    if store.has(digest):
        encoded = store.get_encoded(digest)
        hashes |= {BLAKE3: blake3(encoded).hexdigest(), SHA256: sha256(encoded).hexdigest()}
    return Resource(name, hashes, NODE_MEDIA_TYPE)


def _blob(store: Store, name: str, digest: Digest, annotations: Mapping[str, Any]) -> Resource:
    """Return a blob: its address is the plain BLAKE3 of its bytes."""
    hashes = {BLAKE3: str(digest)}
    if store.has(digest):
        hasher = sha256()
        for row in store.read_rows(digest):
            hasher.update(row)
        hashes[SHA256] = hasher.hexdigest()
    return Resource(name, hashes, "application/octet-stream", annotations)


def _tree(store: Store, name: str, digest: Digest) -> tuple[Resource, ...]:
    """Return a tree of tensors and, as far as the store has them, the elements of each tensor as raw bytes."""
    found = [_object(store, name, digest)]
    if store.has(digest):
        for entry, tensor in get_tree(store, digest).items():
            if store.has(tensor):
                info = tensor_info(store.get_node(tensor))
                described = {"samebits_dtype": info.dtype, "samebits_shape": list(info.shape)}
                found.append(_blob(store, f"{name}/{entry}", info.blob, described))
    return tuple(found)


def _kernel(store: Store, name: str, digest: Digest) -> list[Resource]:
    """Return a kernel's node and its source as text."""
    found = [_object(store, name, digest)]
    if store.has(digest):
        node = store.get_node(digest)
        source = node.body.get("source")
        if node.kind != KERNEL_KIND or not isinstance(source, Digest):
            raise RunError(f"kernel {digest} of the run is a {node.kind}")
        found.append(_blob(store, f"{name}/source", source, {}))
    return found


def _entry_resource(name: str, index: int, entry: Entry, annotations: Mapping[str, Any] | None = None) -> Resource:
    """Return an entry of the ledger: its bytes are at hand, so every digest is known."""
    encoded = encode_entry(entry)
    hashes = {NODE: str(hash_node(encoded)), BLAKE3: str(hash_blob(encoded)), SHA256: sha256(encoded).hexdigest()}
    place = {"samebits_origin": entry.origin, "samebits_index": index, AUTHOR: entry.author.hex()}
    return Resource(name, hashes, NODE_MEDIA_TYPE, {**place, **(annotations or {})})
