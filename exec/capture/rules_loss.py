"""Lowering rules: losses and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import Term, done, iota, results, term
from samebits.exec.capture.lowering import Lowering, rule
from samebits.exec.errors import CaptureError

_NONE, _MEAN, _SUM = 0, 1, 2  # ATen's codes of a loss reduction


def _reduced(loss: Term, reduction: int) -> Term:
    """Return the losses of all elements as they are, their mean or their sum."""
    axes = range(len(loss.shape))
    if reduction == _NONE:
        return loss
    return loss.mean(axes, keep=False) if reduction == _MEAN else loss.sum(axes, keep=False)


def _share(g: Term, x: Term, reduction: int) -> Term:
    """Return the gradient of each element's loss, given that of the reduced loss."""
    return g / x.value.type.size if reduction == _MEAN else g


def _elementwise(name: str, loss: Callable[..., Term], slope: Callable[..., Term]) -> None:
    """Register a loss of (x, target, reduction, parameter) and its backward; slope is the derivative in x."""

    @rule(name)
    def lower_loss(
        low: Lowering, x: ValueRef, target: ValueRef, reduction: int = _MEAN, *parameters: float
    ) -> ValueRef:
        return done(low, _reduced(loss(term(low, x), term(low, target), *parameters), reduction))

    @rule(f"{name}_backward")
    def lower_loss_backward(
        low: Lowering, gradient: ValueRef, x: ValueRef, target: ValueRef, reduction: int, *parameters: float
    ) -> ValueRef:
        wide = term(low, x)
        return done(low, _share(term(low, gradient), wide, reduction) * slope(wide, term(low, target), *parameters))


def _smooth_l1(x: Term, target: Term, beta: float = 1) -> Term:
    distance = (x - target).op("abs")
    return distance if beta == 0 else (distance < beta).pick(0.5 * distance * distance / beta, distance - 0.5 * beta)


def _smooth_l1_slope(x: Term, target: Term, beta: float = 1) -> Term:
    d = x - target
    return d.op("sign") if beta == 0 else (d.op("abs") < beta).pick(d / beta, d.op("sign"))


def _huber(x: Term, target: Term, delta: float = 1) -> Term:
    distance = (x - target).op("abs")
    return (distance <= delta).pick(0.5 * distance * distance, delta * (distance - 0.5 * delta))


def _huber_slope(x: Term, target: Term, delta: float = 1) -> Term:
    d = x - target
    return (d.op("abs") <= delta).pick(d, d.op("sign") * delta)


_ELEMENTWISE: Final = {
    "smooth_l1_loss": (_smooth_l1, _smooth_l1_slope),
    "huber_loss": (_huber, _huber_slope),
    "soft_margin_loss": (lambda x, t: (-t * x).op("exp").op("log1p"), lambda x, t: -t * (-t * x).op("logistic")),
}
for _name, (_loss, _slope) in _ELEMENTWISE.items():
    _elementwise(_name, _loss, _slope)


@rule("mse_loss")
def _mse_loss(low: Lowering, x: ValueRef, target: ValueRef, reduction: int = _MEAN) -> ValueRef:
    difference = term(low, x) - term(low, target)
    return done(low, _reduced(difference * difference, reduction))


@rule("mse_loss_backward")
def _mse_loss_backward(low: Lowering, gradient: ValueRef, x: ValueRef, target: ValueRef, reduction: int) -> ValueRef:
    difference = term(low, x) - term(low, target)
    factor = 2 / x.type.size if reduction == _MEAN else 2.0
    return done(low, factor * difference * term(low, gradient))


@rule("binary_cross_entropy")
def _binary_cross_entropy(
    low: Lowering, x: ValueRef, target: ValueRef, weight: ValueRef | None = None, reduction: int = _MEAN
) -> ValueRef:
    """-(t log x + (1 - t) log(1 - x)), each logarithm at least -100, as in torch."""
    p, t = term(low, x), term(low, target)
    loss = (t - 1) * (-p).op("log1p").op("max", -100) - t * p.op("log").op("max", -100)
    return done(low, _reduced(loss if weight is None else loss * term(low, weight), reduction))


@rule("binary_cross_entropy_backward")
def _binary_cross_entropy_backward(
    low: Lowering,
    gradient: ValueRef,
    x: ValueRef,
    target: ValueRef,
    weight: ValueRef | None = None,
    reduction: int = _MEAN,
) -> ValueRef:
    p, t = term(low, x), term(low, target)
    slope = (p - t) / ((1 - p) * p).op("max", 1e-12)
    share = _share(term(low, gradient), p, reduction) * slope
    return done(low, share if weight is None else share * term(low, weight))


@rule("binary_cross_entropy_with_logits")
def _binary_cross_entropy_with_logits(
    low: Lowering,
    x: ValueRef,
    target: ValueRef,
    weight: ValueRef | None = None,
    positive_weight: ValueRef | None = None,
    reduction: int = _MEAN,
) -> ValueRef:
    """(1 - t) x + w (log1p(exp(-|x|)) + max(-x, 0)) with w = 1 + (positive weight - 1) t."""
    s, t = term(low, x), term(low, target)
    loss = (-s.op("abs")).op("exp").op("log1p") + (-s).op("max", 0)
    if positive_weight is not None:
        loss = loss * (1 + (term(low, positive_weight) - 1) * t)
    loss = loss + (1 - t) * s
    return done(low, _reduced(loss if weight is None else loss * term(low, weight), reduction))


def _rows(low: Lowering, x: ValueRef, target: ValueRef) -> tuple[ValueRef, ValueRef]:
    """Return scores x (n, classes, *positions) as (n * positions, classes) and the targets as (n * positions,)."""
    rank = x.type.rank
    classes = x.type.shape[1 if rank > 1 else 0]
    moved = low.transpose(x, (0, *range(2, rank), 1)) if rank > 2 else x
    return low.reshape(moved, (target.type.size, classes)), low.reshape(target, (target.type.size,))


def _targets(low: Lowering, target: ValueRef, ignore: int) -> tuple[Term, Term]:
    """Return which targets count, and the class of each: 0 where it does not count."""
    given = Term(low, target)
    kept = given.op("ne", ignore)
    return kept, kept.pick(given, 0)


@rule("nll_loss_forward", "nll_loss2d_forward")
def _nll_loss(
    low: Lowering, x: ValueRef, target: ValueRef, weight: ValueRef | None, reduction: int, ignore: int
) -> tuple[ValueRef, ValueRef]:
    """Return the loss -weight[t] x[t] and the total weight of the targets that are not ignored."""
    scores, flat = _rows(low, x, target)
    rows, classes = scores.type.shape
    kept, class_ = _targets(low, flat, ignore)
    known = (class_ >= 0) & (class_ < classes)
    place = known.pick(iota(low, (rows,), 0, class_.dtype) * classes + class_, -1)  # an unknown class stops the run
    picked = term(low, low.op("gather", low.reshape(scores, (rows * classes,)), place.value))
    if weight is None:
        losses, total = kept.pick(-picked, 0), kept.to(picked.dtype).sum([0], keep=False)
    else:
        weights = kept.pick(term(low, low.op("gather", weight, known.pick(class_, -1).value)), 0)
        losses, total = -picked * weights, weights.sum([0], keep=False)
    expected = results(low)
    count = done(low, total, expected[1])
    if reduction == _NONE:
        return done(low, losses.reshape(*target.type.shape), expected[0]), count
    loss = losses.sum([0], keep=False)
    return done(low, loss / total if reduction == _MEAN else loss, expected[0]), count


@rule("nll_loss_backward", "nll_loss2d_backward")
def _nll_loss_backward(
    low: Lowering,
    gradient: ValueRef,
    x: ValueRef,
    target: ValueRef,
    weight: ValueRef | None,
    reduction: int,
    ignore: int,
    total: ValueRef,
) -> ValueRef:
    rank, rows = x.type.rank, target.type.size
    classes = x.type.shape[1 if rank > 1 else 0]
    kept, class_ = _targets(low, low.reshape(target, (rows,)), ignore)
    g = term(low, gradient)
    share = -(g / term(low, total) if reduction == _MEAN else g)
    share = (share.reshape(rows, 1) if reduction == _NONE else share).broadcast((rows, classes))
    if weight is not None:
        share = share * term(low, weight)
    hit = iota(low, (rows, classes), 1, class_.dtype).op("eq", class_.reshape(rows, 1)) & kept.reshape(rows, 1)
    found = hit.pick(share, 0)
    if rank > 2:
        positions = target.type.shape
        found = found.reshape(*positions, classes)
        found = Term(low, low.transpose(found.value, (0, len(positions), *range(1, len(positions)))))
    return done(low, found.reshape(*x.type.shape))


@rule("multi_margin_loss")
def _refused(low: Lowering, *arguments: Any, **options: Any) -> ValueRef:
    raise CaptureError("aten.multi_margin_loss has no rule; write the loss with gather, clamp and mean")
