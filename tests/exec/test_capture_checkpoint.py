"""Activation checkpointing in a captured step: what is recomputed draws the same masks, so it changes no bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from tests.exec.captured import Loss, check_same_bits, job_of, perceptron, run_job  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.checkpoint import checkpoint, checkpoint_sequential  # noqa: E402


class Checkpointed(nn.Module):
    """Dropout before, in, within and after a checkpointed function."""

    def __init__(self, outer: bool | None = None, inner: bool | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.drops = nn.ModuleList(nn.Dropout(p) for p in (0.3, 0.4))
        self.outer, self.inner = outer, inner

    def _call(self, function: Any, reentrant: bool | None, h: Any) -> Any:
        return function(h) if reentrant is None else checkpoint(function, h, use_reentrant=reentrant)

    def _inner(self, h: Any) -> Any:
        return self.drops[1](torch.tanh(self.second(h)))

    def _outer(self, h: Any) -> Any:
        return F.dropout(self._call(self._inner, self.inner, F.dropout(h, 0.2)) * 2, 0.1)

    def forward(self, x: Any) -> Any:
        h = self._call(self._outer, self.outer, self.drops[0](torch.tanh(self.first(x))))
        return self.last(self._call(self._outer, self.outer, F.dropout(h, 0.1)))


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", [None, True, False])
def test_checkpointing_recomputes_with_the_same_masks(outer: bool, inner: bool | None) -> None:
    """Without reentry the recomputation once drew at new sites: gradients of other masks than those of the loss."""
    plain, job = job_of(model=Checkpointed()), job_of(model=Checkpointed(outer, inner))
    check_same_bits(run_job(job)[0], run_job(plain)[0])
    if not outer and not inner:  # with reentry, gradients are added in another order
        assert job.address == plain.address


def test_checkpointing_of_a_sequence_changes_nothing() -> None:
    def segments(model: Any, x: Any, y: Any) -> Any:
        return F.cross_entropy(checkpoint_sequential(model, 2, x, use_reentrant=False), y)

    def model() -> Any:
        return nn.Sequential(nn.Dropout(0.2), perceptron(nn.Dropout(0.3)), nn.Dropout(0.1))

    plain = job_of(lambda model, x, y: F.cross_entropy(model[2](model[1](model[0](x))), y), model())
    assert job_of(segments, model()).address == plain.address


def test_checkpointing_twice_through_one_graph_keeps_its_masks() -> None:
    """Gradients are computed twice, so the function is recomputed twice."""

    def twice(wrap: Callable[[Any, Any], Any]) -> Loss:
        def loss(model: Any, x: Any, y: Any) -> Any:
            h = wrap(model, x)
            return F.cross_entropy(h, y) + sum(
                g.pow(2).sum() for g in torch.autograd.grad(h.pow(2).mean(), model[0].weight, retain_graph=True)
            )

        return loss

    model = perceptron(nn.Dropout(0.4))
    plain = job_of(twice(lambda model, x: model(x)), model)
    job = job_of(twice(lambda model, x: checkpoint(model, x, use_reentrant=False)), model)
    check_same_bits(run_job(job)[0], run_job(plain)[0])
