"""Check evidence: does it prove, from the author's own signatures alone, that a run is not what it claims?

Trusted are signatures, hashes and the arithmetic here; nothing else that a file says. Every statement that is held
against an author is true of an honest run, so no file can pass against one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from samebits.cas import CasError
from samebits.exec.dispute.check_leaf import check_wrong_leaf
from samebits.exec.dispute.check_replay import check_wrong_replay
from samebits.exec.dispute.evidence import Evidence, EvidenceKind
from samebits.exec.dispute.signed import check_commit, read_entry, read_run
from samebits.exec.dispute.subject import Accusation, Subject, need
from samebits.exec.errors import EvidenceError, ExecError, NotWrongError
from samebits.exec.machine import load_spec
from samebits.exec.verification.claim import check_job_steps
from samebits.kernels.errors import KernelError
from samebits.kernels.version import check_arithmetic
from samebits.ledger import LedgerError, SegmentBody


def check_evidence(evidence: Evidence, *, accused: bytes | None = None) -> Accusation:
    """Return what the evidence proves, and against whom; raises EvidenceError where it proves nothing.

    `accused` is the public key that it has to convict, if the asker knows it.
    """
    try:
        run = read_run(evidence.run)
        if accused is not None and run.author != accused:
            raise EvidenceError(f"it is about a run of {run.author.hex()}, not of {accused.hex()}")
        spec = load_spec(run.body.job, evidence.objects)
        check_arithmetic(spec.arithmetic)
        check_job_steps(run.body, spec)
        return _CHECKS[evidence.kind](Subject(evidence, run, spec))
    except EvidenceError:
        raise
    except (CasError, KernelError, LedgerError, ExecError) as error:
        raise EvidenceError(str(error)) from error
    except MemoryError as error:
        raise EvidenceError("out of memory") from error


def _check_leaves(subject: Subject) -> Accusation:
    """The signed trace has another number of leaves than the step."""
    subject.leaf(0)  # a leaf of the version that is counted
    found, wanted = subject.trace.leaves, len(subject.layout.leaves)
    if found == wanted:
        raise NotWrongError(f"the trace has {wanted} leaves, as it should")
    return subject.accuse(subject.step, None, f"signed a trace of {found} leaves, where the job gives {wanted}")


def _check_end(subject: Subject) -> Accusation:
    """The signed trace ends in something else than what the author signed before."""
    trace = subject.trace
    if trace.leaves != len(subject.layout.leaves):
        raise EvidenceError("the trace has another number of leaves than the job gives")
    address = subject.operand(subject.layout.last)
    if trace.level == "init":
        signed, said = subject.state_before(trace.first_step), "the initial state"
    else:
        after, step = need(subject.evidence.after, "the commit after the step"), trace.stop_step - 1
        if trace.level == "steps" and not isinstance(read_entry(subject.run, after.entry).body, SegmentBody):
            raise EvidenceError("a trace of steps is held against what a segment signs")
        signed, said = check_commit(subject.run, after, step).address(), f"the commit of step {step}"
    if signed == address:
        raise NotWrongError(f"the trace ends in {said}, as it should")
    return subject.accuse(subject.step, None, f"signed {signed} as {said}, and a trace that gives {address}")


def _check_state_in(subject: Subject) -> Accusation:
    """The run starts from another state than the one that its job names."""
    first = subject.run.body.first_step
    if subject.spec.init is not None:
        raise EvidenceError("the job's initial state is made by a graph, so no address says what it is")
    started = subject.state_before(first)
    if started == subject.spec.state:
        raise NotWrongError("the run starts from the job's own state, as it should")
    return subject.accuse(None, None, f"signed that the run starts from {started}, the job says {subject.spec.state}")


def _check_state_out(subject: Subject) -> Accusation:
    """A segment ends in another state than its last commit."""
    segment = subject.segment
    after = need(subject.evidence.after, "the last commit of the segment")
    body = read_entry(subject.run, after.entry).body
    if body != segment:
        raise EvidenceError("the commit is not of this segment")
    step = segment.stop_step - 1
    commit = check_commit(subject.run, after, step)
    if commit.state == segment.state_out:
        raise NotWrongError("the segment ends in the state of its last commit, as it should")
    what = f"signed that the segment ends in state {segment.state_out}, and a commit of it with {commit.state}"
    return subject.accuse(step, None, what)


def _check_number(subject: Subject) -> Accusation:
    """A commit names another step than the one it is signed for."""
    step, _ = need(subject.evidence.steps, "the step")
    commit = check_commit(subject.run, need(subject.evidence.after, "the commit"), step)
    if commit.step == step:
        raise NotWrongError(f"the commit of step {step} names this step, as it should")
    return subject.accuse(step, None, f"signed a commit of step {commit.step} as that of step {step}")


_CHECKS: Final[Mapping[EvidenceKind, Callable[[Subject], Accusation]]] = {
    "leaf": check_wrong_leaf,
    "leaves": _check_leaves,
    "end": _check_end,
    "state_in": _check_state_in,
    "state_out": _check_state_out,
    "number": _check_number,
    "replay": check_wrong_replay,
}
