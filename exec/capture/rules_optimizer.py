"""Lowering rules: the update of a parameter by an optimizer.

lr is the learning rate of the step, g the gradient, negated to maximize; with weight decay d, SGD, Adam, RMSprop and
Adagrad add d p to it, AdamW first multiplies p by 1 - lr d. Scalars are f64 and rounded once to the parameter's type.

    SGD       b = mu b + g;  p = p - lr b, or p - lr (g + mu b) after Nesterov (Sutskever et al., ICML 2013)
    Adam(W)   m = m + (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g g;  c1 = beta1 c1;  c2 = beta2 c2
              p = p - lr / (1 - c1) m / (sqrt(v) / sqrt(1 - c2) + eps)
              (Kingma and Ba, arXiv 1412.6980; Loshchilov and Hutter, arXiv 1711.05101; AMSGrad: the largest v so far)
    RMSprop   v = alpha v + (1 - alpha) g g;  u = g / (sqrt(v) + eps);  p = p - lr u, or - lr (b = mu b + u)
              (Hinton, lecture 6e; centered: v - a a for v under the root, with a = a + (1 - alpha) (g - a))
    Adagrad   s = s + g g;  p = p - lr / (1 + n decay) g / (sqrt(s) + eps) in step n = 0, 1, ...
              (Duchi et al., JMLR 2011)

c1 and c2 are carried in the state as f64 products, not computed as host-side powers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from samebits.exec.builder import ValueRef
from samebits.exec.capture.formula import Term
from samebits.exec.capture.lowering import Lowering, rule

Options = Mapping[str, float]
Update = Callable[[Term, Term, Sequence[Term], Sequence[Term], Options], list[Term]]


@rule("samebits.optimize")
def _optimize(
    low: Lowering,
    kind: str,
    p: ValueRef,
    gradient: ValueRef,
    own: Sequence[ValueRef],
    scalars: Sequence[ValueRef],
    names: str,
    values: Sequence[float],
) -> list[ValueRef]:
    options = dict(zip(names.split(","), values, strict=True))
    terms = [Term(low, value) for value in (p, gradient, *own)]
    g = terms[1].op("neg") if options["maximize"] else terms[1]
    if options["weight_decay"] and not options.get("decoupled_weight_decay"):
        g = g + terms[0] * options["weight_decay"]
    each = [Term(low, low.cast(scalar, p.type.dtype)) for scalar in scalars]
    return [term.value for term in _UPDATES[kind](terms[0], g, terms[2:], each, options)]


def _sgd(p: Term, g: Term, own: Sequence[Term], scalars: Sequence[Term], options: Options) -> list[Term]:
    if not options["momentum"]:
        return [p - g * scalars[0]]
    moved = own[0] * options["momentum"] + g
    direction = g + moved * options["momentum"] if options["nesterov"] else moved
    return [p - direction * scalars[0], moved]


def _adam(p: Term, g: Term, own: Sequence[Term], scalars: Sequence[Term], options: Options) -> list[Term]:
    rate, root, kept = scalars
    if options["decoupled_weight_decay"] and options["weight_decay"]:
        p = p * kept
    moment = own[0] + (g - own[0]) * (1.0 - options["beta1"])
    variance = own[1] * options["beta2"] + g * g * (1.0 - options["beta2"])
    new = [moment, variance]
    if options["amsgrad"]:
        variance = own[2].op("max", variance)
        new.append(variance)
    return [p - moment / (variance.op("sqrt") / root + options["eps"]) * rate, *new]


def _rmsprop(p: Term, g: Term, own: Sequence[Term], scalars: Sequence[Term], options: Options) -> list[Term]:
    left, alpha = list(own[1:]), options["alpha"]
    square = own[0] * alpha + g * g * (1.0 - alpha)
    new, variance = [square], square
    if options["centered"]:
        mean = left.pop()
        mean = mean + (g - mean) * (1.0 - alpha)
        variance = variance - mean * mean
        new.append(mean)
    direction = g / (variance.op("sqrt") + options["eps"])
    if options["momentum"]:
        direction = left.pop() * options["momentum"] + direction
        new.insert(1, direction)
    return [p - direction * scalars[0], *new]


def _adagrad(p: Term, g: Term, own: Sequence[Term], scalars: Sequence[Term], options: Options) -> list[Term]:
    total = own[0] + g * g
    return [p - g / (total.op("sqrt") + options["eps"]) * scalars[0], total]


_UPDATES: Final[Mapping[str, Update]] = {
    "SGD": _sgd,
    "Adam": _adam,
    "AdamW": _adam,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
}
