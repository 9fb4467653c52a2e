"""Two runs of one job that differ: find the step and operation at which they part, compute it, and name the liar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from samebits.cas import CasError
from samebits.exec.dispute.check import check_evidence
from samebits.exec.dispute.evidence import Evidence
from samebits.exec.dispute.fetching import Fetcher
from samebits.exec.dispute.judge import ComputedTree, LeafCase, SignedTree, check_trace, first_difference
from samebits.exec.dispute.objects import Objects
from samebits.exec.dispute.prover import Prover
from samebits.exec.dispute.referee import Referee
from samebits.exec.dispute.report import CONTRADICTS, LIED, DisputeReport, Finding
from samebits.exec.dispute.search import Gap, agreed_steps, find_gap, narrow
from samebits.exec.dispute.side import BAD_ANSWER, ConvictedError, FailedSideError, Side, Traffic
from samebits.exec.errors import CannotTraceError, EvidenceError, ExecError, NotWrongError, RunError
from samebits.exec.machine import State, load_spec
from samebits.exec.trace import Layout, init_layout, step_layout
from samebits.exec.tracing import Computed
from samebits.exec.verification.claim import check_job_steps
from samebits.kernels.errors import KernelError
from samebits.ledger.bodies import TraceLevel

Compute = Callable[[Sequence[int]], Computed]


def dispute(a: Prover, b: Prover, *, both: bool = False) -> DisputeReport:
    """Compare two runs of one job and judge the sides; raises RunError if they are of different jobs.

    `both`: where an operation convicts one side, compute the whole step too, and judge the other by that.
    Raises RunError, CasError or LedgerError for what is no run of the job at all.
    """
    started = time.perf_counter()
    court = _Court(a, b, both)
    court.hear()
    court.report.seconds = time.perf_counter() - started
    return court.report


class _Court:
    """One dispute."""

    def __init__(self, a: Prover, b: Prover, both: bool) -> None:
        job, runs = a.chain.job, (a.chain.run_address, b.chain.run_address)
        if b.chain.job != job:
            raise RunError(f"run {runs[0]} is of job {job}, run {runs[1]} of job {b.chain.job}; want two of one job")
        self._fetcher = Fetcher(Objects(), [a.remote, b.remote])
        self._fetcher.nodes_below(job)
        self._objects = self._fetcher.objects
        self._spec = load_spec(job, self._objects)
        for prover in (a, b):
            check_job_steps(prover.chain.body, self._spec, run=f"run {prover.chain.run_address}")
            if not prover.chain.segments:
                raise RunError(f"run {prover.chain.run_address} has no finished segment yet")
        self._sides = Side("A", a, self._objects), Side("B", b, self._objects)
        self._both = both
        self._first = a.chain.body.first_step
        self.report = DisputeReport(runs, job, stops=(a.chain.next_step, b.chain.next_step), job_steps=self._spec.steps)

    def hear(self) -> None:
        """Follow the runs, and fill in the report."""
        report = self.report
        with self._recording():
            self._compare()
        if any(finding.accusation or finding.verdict == BAD_ANSWER for finding in report.findings):
            report.outcome = "liar"
        elif report.depth != "run" or any(finding.verdict for finding in report.findings):
            report.outcome = "undecided"
        elif min(report.stops) < report.job_steps:
            report.outcome = "stops early"
        report.bytes_fetched += self._fetcher.bytes_fetched
        for side in self._sides:
            for level, traffic in side.traffic.items():
                total = report.traffic.setdefault(level, Traffic())
                total.queries += traffic.queries
                total.size_bytes += traffic.size_bytes

    def _compare(self) -> None:
        a, b = self._sides
        self.report.agreed_steps = self._first
        if a.state_before(self._first) != b.state_before(self._first):
            self._compare_starts()
            return
        self.report.depth = "segment"
        gap = find_gap(a, b)
        if gap is None:
            self.report.depth, self.report.agreed_steps = "run", agreed_steps(a, b)
            return
        self._set_gap(gap)
        trees: dict[str, SignedTree] = {}
        with self._recording():
            gap = narrow(a, b, gap)
            self._set_gap(gap)
            self._operations(step_layout(self._objects, self._spec, gap.first), "nodes", gap.first, trees)
        self._retry(gap, trees)

    def _compare_starts(self) -> None:
        """The runs start from different states."""
        if self._spec.init is None:
            for side in self._sides:
                self._try(side, side.evidence("state_in", **side.before(self._first)), LIED)
            return
        trees: dict[str, SignedTree] = {}
        self.report.depth = "step"
        with self._recording():
            self._operations(init_layout(self._objects, self._spec), "init", self._first, trees)
        self._retry(Gap(self._first, self._first, self._first), trees)

    def _operations(self, layout: Layout, level: TraceLevel, step: int, trees: dict[str, SignedTree]) -> None:
        """Follow the traces of both sides to the leaf in which they part, and compute it."""
        signed = {}
        for side in self._sides:  # both sign before either is asked
            with self._recording():
                signed[side.label] = side.trace(level, step, step + 1)
        for side in self._sides:
            if side.label in signed:
                with self._recording():
                    trees[side.label] = check_trace(side, signed[side.label], layout, level)
        if len(trees) < 2:
            return
        index = first_difference(trees["A"], trees["B"], len(layout.leaves))
        if index is None:
            raise AssertionError("traces that end differently differ")
        sources = [tree.values for tree in trees.values()]
        for side in self._sides:
            self._judge_leaf(LeafCase(trees[side.label], layout, self._spec, self._fetcher, sources), index)

    def _judge_leaf(self, case: LeafCase, index: int) -> None:
        self.report.depth, self.report.place = "operation", case.layout.leaves[index].place
        with self._recording():
            self._try(case.tree.side, case.evidence(index), LIED)
            self.report.operations_computed += 1

    def _retry(self, gap: Gap, trees: dict[str, SignedTree]) -> None:
        """Have the referee compute the steps, for the sides that are neither convicted nor cleared."""
        convicted = any(finding.accusation for finding in self.report.findings)
        left = [side for side in self._sides if self._finding(side).accusation is None]
        if convicted and not self._both:
            left = [side for side in left if not self._finding(side).cleared]
        if not left:
            return
        try:
            self._referee(gap, trees, left)
        except (CasError, ExecError, KernelError) as error:  # what was found before this stays
            for side in left:
                finding = self._finding(side)
                finding.reason = finding.reason or f"can't be judged here: {error}"

    def _referee(self, gap: Gap, trees: dict[str, SignedTree], left: list[Side]) -> None:
        referee = Referee(self.report.job, self._fetcher.remotes)
        try:
            if gap.stop == gap.first:
                self._retry_start(referee, trees, left)
            else:
                self._retry_steps(referee, gap, trees, left)
        finally:
            referee.close()
            self.report.bytes_fetched += referee.bytes_fetched
            self.report.steps_computed += referee.steps_computed

    def _retry_steps(self, referee: Referee, gap: Gap, trees: dict[str, SignedTree], left: list[Side]) -> None:
        checkpoint = None if gap.checkpoint == self._first else left[0].state_before(gap.checkpoint)
        state = referee.state(gap.checkpoint, checkpoint, gap.first)
        if referee.address(state) != left[0].state_before(gap.first):  # agreed on what the steps before don't give
            start = referee.state(gap.checkpoint, checkpoint, gap.checkpoint)
            for side in left:
                self._try(side, referee.evidence(side, gap.checkpoint, gap.first, start), LIED)
            return
        right = referee.commits(gap.first, gap.stop, state)[-1]
        for side in left:
            with self._recording():
                if side.commit(gap.stop - 1)[0].address() == right:
                    self._finding(side).cleared = True
                elif side.label in trees and not self._finding(side).verdict:
                    self._follow_steps(referee, gap.first, trees[side.label], state)
                else:
                    self._try(side, referee.evidence(side, gap.first, gap.stop, state), LIED)

    def _follow_steps(self, referee: Referee, step: int, tree: SignedTree, state: State) -> None:
        layout = step_layout(self._objects, self._spec, step)
        self._follow(tree, layout, lambda keep: referee.trace(layout, step, state, keep))

    def _retry_start(self, referee: Referee, trees: dict[str, SignedTree], left: list[Side]) -> None:
        layout = init_layout(self._objects, self._spec)
        trace, _ = referee.initial_trace(layout)
        for side in left:
            with self._recording():
                if side.state_before(self._first) == trace.addresses[layout.last]:
                    self._finding(side).cleared = True
                elif side.label in trees and not self._finding(side).verdict:
                    self._follow(trees[side.label], layout, lambda keep: referee.initial_trace(layout, keep))
                else:
                    steps = (self._first, self._first)
                    self._try(side, side.evidence("replay", steps=steps, **side.before(self._first)), LIED)

    def _follow(self, tree: SignedTree, layout: Layout, compute: Compute) -> None:
        """Follow one side's trace against the referee's own."""
        index = first_difference(tree, ComputedTree.of(compute(())[0]), len(layout.leaves))
        if index is None:
            return

        def values(indexes: Sequence[int]) -> list[bytes]:
            kept = compute(indexes)[1]
            return [kept[one].tobytes() for one in indexes]

        self._judge_leaf(LeafCase(tree, layout, self._spec, self._fetcher, [values]), index)

    def _set_gap(self, gap: Gap) -> None:
        self.report.agreed_steps, self.report.steps = gap.first, (gap.first, gap.stop)
        self.report.depth = "step" if gap.stop - gap.first == 1 else "steps"

    def _finding(self, side: Side) -> Finding:
        return self.report.findings["AB".index(side.label)]

    def _try(self, side: Side, evidence: Evidence, verdict: str) -> None:
        """Convict a side if the evidence passes the check that everybody makes."""
        finding = self._finding(side)
        try:
            finding.accusation = check_evidence(evidence)
        except NotWrongError:
            finding.cleared = True
        except EvidenceError as error:
            finding.reason = finding.reason or f"can't be judged here: {error}"
        else:
            finding.evidence = evidence
            finding.verdict, finding.reason = finding.verdict or verdict, finding.reason or str(finding.accusation)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Write down who failed or convicted itself, and go on."""
        try:
            yield
        except ConvictedError as error:
            self._try(error.side, error.evidence, CONTRADICTS)
        except FailedSideError as error:
            finding = self._finding(error.side)
            finding.verdict, finding.reason = finding.verdict or error.verdict, finding.reason or error.reason
        except CannotTraceError:
            pass  # the referee computes what it would have shown
