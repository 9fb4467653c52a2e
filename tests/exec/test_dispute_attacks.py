"""Nobody can be framed: no mixture of what an honest author signed makes evidence that passes, and no hostile file does
harm."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.exec.frauds import Author, FalseMachine, nudge
from tests.exec.small_job import make_job, step_graph
from tests.exec.test_dispute import false_subtraction, init_job

from samebits.cas import Node, Store, decode_node, encode_node, hash_blob
from samebits.cas.encoding import Value
from samebits.exec.canonical import graph_node
from samebits.exec.commits import Commit
from samebits.exec.dispute import evidence as evidence_file
from samebits.exec.dispute.check import check_evidence
from samebits.exec.dispute.dispute import dispute
from samebits.exec.dispute.evidence import MAGIC, Evidence, EvidenceKind, decode_evidence, encode_evidence
from samebits.exec.dispute.objects import Objects
from samebits.exec.dispute.signed import CommitProof, LeafProof, check_leaf
from samebits.exec.errors import EvidenceError, NotWrongError
from samebits.exec.job import Job
from samebits.exec.trace import init_layout, step_layout
from samebits.ledger import SigningKey, TraceBody, decode_entry, encode_entry, entry_address, sign_entry
from samebits.ledger.errors import ProofError

STEPS = 6


@dataclasses.dataclass(frozen=True, repr=False)
class Material:
    """What there is to mix: of honest authors, and of one fraud, with the fraud's evidence."""

    honest: frozenset[bytes]  # keys
    fraud: bytes
    runs: list[bytes]
    segments: list[bytes]
    traces: list[bytes]
    commits: list[CommitProof]
    leaves: list[tuple[int, LeafProof]]
    objects: Objects
    evidence: list[Evidence]


def add_author(author: Author, material: dict[str, list[Any]]) -> None:
    """Add all that an author signs about a run, in every form."""
    prover = author.prover()
    chain = prover.chain
    material["runs"].append(encode_entry(chain.run))
    segments = [encode_entry(segment.entry) for segment in chain.segments]
    material["segments"] += segments
    wanted: list[tuple[Any, int, int]] = [("nodes", t, t + 1) for t in (0, 3, 4, STEPS - 1)]
    wanted += [("steps", 0, 2), ("steps", 2, 4)] if chain.body.commit_every == 2 else []
    wanted += [("init", 0, 1)] if author.job.spec.init is not None else []
    for level, first, stop in wanted:
        entry = prover.trace(level, first, stop)
        material["traces"].append(entry)
        address, body = entry_address(decode_entry(entry)), decode_entry(entry).body
        assert isinstance(body, TraceBody)
        for index in range(body.leaves):
            material["leaves"].append((index, prover.leaf(address, index)))
        if level != "steps":
            spec = author.job.spec
            layout = init_layout(author.store, spec) if level == "init" else step_layout(author.store, spec, first)
            leaves = [leaf for leaf in layout.leaves if leaf.type is not None]  # all of them before the others
            for leaf, value in zip(leaves, prover.values(address, range(len(leaves))), strict=True):
                assert leaf.type is not None
                shape: list[Value] = list(leaf.type.shape)
                node = Node("tensor", {"dtype": leaf.type.dtype, "shape": shape, "blob": hash_blob(value)})
                material["values"].append(value)
                material["nodes"].append(encode_node(node))
        if level == "steps":
            for t in range(first, stop):
                material["commits"].append(CommitProof(entry, *prover.commit(t, address)))
    for segment, encoded in zip(chain.segments, segments, strict=True):
        for t in range(segment.body.first_step, segment.body.stop_step):
            if (t + 1) % chain.body.commit_every == 0 or t == segment.body.stop_step - 1:
                material["commits"].append(CommitProof(encoded, *prover.commit(t)))
            material["nodes"].append(prover.state(t))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    made: dict[str, list[Any]] = {
        name: [] for name in ("runs", "segments", "traces", "commits", "leaves", "nodes", "values")
    }
    folder = tmp_path_factory.mktemp("material")
    job, started = make_job(steps=STEPS), init_job()
    with Store(folder / "honest") as honest, Store(folder / "other") as other, Store(folder / "fraud") as liar:
        h = Author(honest, job, checkpoint=3)
        authors = [h, Author(honest, job, every=2, checkpoint=4), Author(honest, make_job(rate=0.2, steps=STEPS))]
        authors += [Author(other, started, checkpoint=6), Author(other, make_job(metric="other", steps=STEPS))]
        machine = FalseMachine(job, liar, at=lambda t: t == 4, alter=false_subtraction)
        fraud = Author(liar, job, machine, checkpoint=3)
        lied = [dispute(fraud.prover(), h.prover()), dispute(fraud.prover(signing=False), h.prover(signing=False))]

        def move(t: int, state: Any) -> Any:
            return {name: nudge(value) for name, value in state.items()} if t == 3 else state

        moved = Author(liar, job, checkpoint=3, after_step=move)
        lied.append(dispute(moved.prover(), h.prover()))
        evidence = [report.findings[0].evidence for report in lied]
        for author in (*authors, fraud):
            add_author(author, made)
        objects = Objects()
        for one in evidence:
            assert one is not None
            objects.nodes.update(one.objects.nodes)
            objects.blobs.update(one.objects.blobs)
        for each in (job, started, *(author.job for author in authors)):
            _add_job(objects, each)
        for node in made["nodes"]:
            objects.add_node(node)
        for value in made["values"]:
            objects.add_blob(value)
    return Material(
        frozenset({h.key.public, authors[3].key.public}),
        fraud.key.public,
        made["runs"],
        made["segments"],
        made["traces"],
        made["commits"],
        made["leaves"],
        objects,
        [one for one in evidence if one is not None],
    )


def _add_job(objects: Objects, job: Job) -> None:
    for node in job.all_nodes().values():
        objects.add_node(encode_node(node))
    for blob in job.blobs.values():
        objects.add_blob(blob)


def accused(evidence: Evidence) -> bytes | None:
    """Return whom evidence convicts, None if it proves nothing."""
    try:
        return check_evidence(evidence).author
    except EvidenceError as error:
        assert "\n" not in str(error)
        return None


def test_the_fraud_s_own_evidence_passes(material: Material) -> None:
    assert [accused(one) for one in material.evidence] == [material.fraud] * 3
    assert {one.kind for one in material.evidence} == {"leaf", "replay", "end"}
    for one in material.evidence:
        assert decode_evidence(encode_evidence(one)) == one


def test_evidence_that_is_whole_passes_with_all_objects_too(material: Material) -> None:
    """So the mixtures below fail for what they say, not for want of objects."""
    for one in material.evidence:
        assert accused(dataclasses.replace(one, objects=material.objects)) == material.fraud


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mixture_convicts_who_is_honest(material: Material, data: st.DataObject) -> None:
    """Fields of the fraud's evidence are replaced by whatever anybody signed, in any place."""
    base = material.evidence[data.draw(st.integers(0, 2))]
    numbers = st.integers(0, 25)
    proofs = st.lists(st.sampled_from(material.leaves), max_size=3)
    changes: dict[str, Any] = {
        "kind": st.sampled_from(get_args(EvidenceKind)),
        "run": st.sampled_from(material.runs),
        "segment": st.sampled_from([None, *material.segments]),
        "trace": st.sampled_from([None, *material.traces]),
        "before": st.sampled_from([None, *material.commits]),
        "after": st.sampled_from([None, *material.commits]),
        "leaf": numbers,
        "leaves": proofs.map(lambda found: {**base.leaves, **dict(found)}),
        "steps": st.tuples(st.integers(0, STEPS), st.integers(0, STEPS)),
    }
    names = data.draw(st.sets(st.sampled_from(sorted(changes)), min_size=1))
    fields = {name: data.draw(changes[name]) for name in sorted(names)}
    mixed = dataclasses.replace(base, objects=material.objects, **fields)
    assert accused(mixed) in (None, material.fraud)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_choice_of_honest_signatures_convicts(material: Material, data: st.DataObject) -> None:
    """All of a run's own entries, consistent with each other, and true leaves at their places or elsewhere."""
    run = data.draw(st.sampled_from(material.runs))
    address, author = entry_address(decode_entry(run)), decode_entry(run).author
    if author == material.fraud:
        return

    def own(entries: list[bytes]) -> st.SearchStrategy[Any]:
        return st.sampled_from([None, *(e for e in entries if body_of(e).run == address)])

    commits = [c for c in material.commits if body_of(c.entry).run == address]
    trace = data.draw(own(material.traces))
    size = 1 if trace is None else body_of(trace).leaves
    index = data.draw(st.integers(0, size))
    evidence = Evidence(
        data.draw(st.sampled_from(get_args(EvidenceKind))),
        run,
        material.objects,
        data.draw(own(material.segments)),
        trace,
        data.draw(st.sampled_from([None, *commits])),
        data.draw(st.sampled_from([None, *commits])),
        index,
        _leaves_of(material, trace),
        data.draw(st.tuples(st.integers(0, STEPS), st.integers(0, STEPS))),
    )
    assert accused(evidence) is None


def _leaves_of(material: Material, trace: bytes | None) -> dict[int, LeafProof]:
    """Return every leaf of a trace, by trying all of them."""
    found: dict[int, LeafProof] = {}
    if trace is None:
        return found
    body = decode_entry(trace).body
    assert isinstance(body, TraceBody)
    for index, proof in material.leaves:
        try:
            check_leaf(body, index, proof)
        except ProofError:
            continue
        found[index] = proof
    return found


def body_of(entry: bytes) -> Any:
    return decode_entry(entry).body


def test_every_leaf_of_an_honest_trace_is_right(material: Material) -> None:
    """The checks get as far as the arithmetic: each leaf is computed, and found as it should be."""
    seen = 0
    for trace in [one for one in material.traces if body_of(one).level != "steps"]:
        body = body_of(trace)
        run = next(one for one in material.runs if entry_address(decode_entry(one)) == body.run)
        if decode_entry(run).author == material.fraud:
            continue
        first = body.first_step
        starts = [one for one in material.segments if body_of(one).run == body.run and body_of(one).first_step == first]
        own = [one for one in material.commits if body_of(one.entry).run == body.run]
        before = next((one for one in own if step_of(one) == first - 1), None)
        if not starts and before is None:
            continue
        segment = starts[0] if starts else None
        leaves = _leaves_of(material, trace)
        for index in range(body.leaves):
            evidence = Evidence("leaf", run, material.objects, segment, trace, before, None, index, leaves)
            with pytest.raises(NotWrongError, match="as it should be"):
                check_evidence(evidence)
            seen += 1
    assert seen > 200


def step_of(proof: CommitProof) -> int:
    return Commit.from_node(decode_node(proof.commit)).step


def test_a_trace_by_somebody_else_convicts_nobody(material: Material) -> None:
    """A false trace of an honest run, signed by another key, or by the fraud for its own run."""
    base = material.evidence[0]
    assert base.trace is not None
    false = decode_entry(base.trace)
    honest = decode_entry(material.runs[0])
    body = dataclasses.replace(false.body, run=entry_address(honest))  # type: ignore[arg-type]
    forged = sign_entry(honest.origin, false.prev, body, SigningKey.generate("samebits.local/author"), time=1)
    stolen = dataclasses.replace(forged, author=honest.author)
    for trace in (encode_entry(forged), encode_entry(stolen), base.trace):
        assert accused(dataclasses.replace(base, run=material.runs[0], trace=trace)) is None


def test_another_job_or_graph_can_t_be_put_in_its_place(material: Material) -> None:
    base = material.evidence[0]
    objects = Objects(dict(base.objects.nodes), dict(base.objects.blobs), dict(base.objects.parts))
    graph = encode_node(graph_node(step_graph(0.1)))
    address = next(address for address, node in objects.nodes.items() if node == graph)
    objects.nodes[address] = encode_node(graph_node(step_graph(0.5)))  # as no file can say it: the reader hashes
    assert accused(_read_again(dataclasses.replace(base, objects=objects))) is None


def _read_again(evidence: Evidence) -> Evidence:
    """Return evidence as its reader sees it: every object is under the hash of its bytes."""
    objects = Objects()
    for node in evidence.objects.nodes.values():
        objects.add_node(node)
    for blob in evidence.objects.blobs.values():
        objects.add_blob(blob)
    return decode_evidence(encode_evidence(dataclasses.replace(evidence, objects=objects)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_with_any_byte_changed_convicts_nobody_else(material: Material, data: st.DataObject) -> None:
    encoded = bytearray(encode_evidence(material.evidence[data.draw(st.integers(0, 2))]))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_evidence(bytes(encoded))
    except EvidenceError:
        return
    assert accused(found) in (None, material.fraud)  # an object that the proof does without may be another


@pytest.mark.parametrize("cut", [0, 10, 20, 22, 24, 100, -1])
def test_a_file_that_is_cut_or_goes_on_is_refused(material: Material, cut: int) -> None:
    encoded = encode_evidence(material.evidence[0])
    with pytest.raises(EvidenceError):
        decode_evidence(encoded[:cut])
    with pytest.raises(EvidenceError):
        decode_evidence(encoded + b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"samebits evidence 2\n",
        MAGIC + b"\xff\xff\xff\xff",
        MAGIC + (1).to_bytes(4, "big") + b"\x80",
        MAGIC + (5).to_bytes(4, "big") + b"\xdd\xff\xff\xff\xff",
        MAGIC + (1 << 16).to_bytes(4, "big") + b"\x91" * (1 << 16),
    ],
)
def test_hostile_files_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        decode_evidence(data)
    assert "\n" not in str(caught.value)


def test_evidence_is_written_up_to_the_size_that_is_read(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = encode_evidence(material.evidence[0])
    monkeypatch.setattr(evidence_file, "MAX_SIZE_BYTES", len(encoded))
    assert encode_evidence(decode_evidence(encoded)) == encoded
    monkeypatch.setattr(evidence_file, "MAX_SIZE_BYTES", len(encoded) - 1)
    with pytest.raises(EvidenceError, match=f"would have {len(encoded)} bytes; the most is {len(encoded) - 1}"):
        encode_evidence(material.evidence[0])
    with pytest.raises(EvidenceError, match="the most is"):
        decode_evidence(encoded)


def test_the_accused_can_be_named(material: Material) -> None:
    base = material.evidence[0]
    assert check_evidence(base, accused=material.fraud).author == material.fraud
    with pytest.raises(EvidenceError, match="not of"):
        check_evidence(base, accused=next(iter(material.honest)))


def test_too_many_steps_to_compute_are_refused_quickly(material: Material) -> None:
    base = next(one for one in material.evidence if one.kind == "replay")
    run = decode_entry(base.run)
    long = sign_entry(
        run.origin,
        None,
        dataclasses.replace(run.body, steps=1 << 50),  # type: ignore[arg-type]
        SigningKey.generate("samebits.local/author"),
    )
    with pytest.raises(EvidenceError, match=r"its job has \d+ steps"):
        check_evidence(dataclasses.replace(base, run=encode_entry(long)))
