"""Torch's random calls, as draws from the job's key at a named site instead of a hidden generator.

While a step runs under `Draws.apply_to`, dropout and its friends become the ops ``samebits::uniform``, ``normal`` and
``integers`` (`exec/draws.py` has their definition), in the trace and in the eager run that it is compared with alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from samebits.exec import draws
from samebits.exec.builder import GraphBuilder
from samebits.exec.capture.sites import Sites
from samebits.exec.capture.tensors import to_numpy, to_torch
from samebits.exec.devices.numpy_device import NumpyDevice
from samebits.exec.devices.protocol import Executable
from samebits.exec.errors import CaptureError
from samebits.exec.planner import plan_graph
from samebits.kernels.types import TensorType

Handler = Callable[..., Any]
HANDLERS: Final[dict[str, Handler]] = {}  # ATen op with overload -> what draws in its place
_OWN_GENERATOR: Final = frozenset(
    f"aten.{name}"
    for name in (
        "rand.generator",
        "randn.generator",
        "randint.generator",
        "randint.low_generator",
        "randperm.generator",
    )
)
_WIDE_SPAN: Final = 1 << 62


@torch.library.custom_op("samebits::uniform", mutates_args=())
def uniform_op(key: torch.Tensor, site: str, size: Sequence[int]) -> torch.Tensor:
    """Return f32 numbers in [0, 1)."""
    return to_torch(_draw("uniform", site, tuple(size), 0, key))


@torch.library.custom_op("samebits::normal", mutates_args=())
def normal_op(key: torch.Tensor, site: str, size: Sequence[int]) -> torch.Tensor:
    """Return f32 numbers of the standard normal distribution."""
    return to_torch(_draw("normal", site, tuple(size), 0, key))


@torch.library.custom_op("samebits::integers", mutates_args=())
def integers_op(key: torch.Tensor, site: str, span: int, size: Sequence[int]) -> torch.Tensor:
    """Return i64 numbers in [0, span)."""
    return to_torch(_draw("integers", site, tuple(size), span, key))


@uniform_op.register_fake
@normal_op.register_fake
def _(key: torch.Tensor, site: str, size: Sequence[int]) -> torch.Tensor:
    return key.new_empty(size, dtype=torch.float32)


@integers_op.register_fake
def _(key: torch.Tensor, site: str, span: int, size: Sequence[int]) -> torch.Tensor:
    return key.new_empty(size, dtype=torch.int64)


def _draw(kind: str, site: str, size: tuple[int, ...], span: int, key: torch.Tensor) -> np.ndarray[Any, Any]:
    return np.asarray(_executable(kind, site, size, span)({"key": to_numpy(key)})["drawn"])


@cache
def _executable(kind: str, site: str, size: tuple[int, ...], span: int) -> Executable:
    build = GraphBuilder()
    key = build.input("key", TensorType("u32", (2,)))
    if kind == "integers":
        build.output("drawn", draws.integers(build, key, site, span, size))
    else:
        build.output("drawn", {"uniform": draws.uniform, "normal": draws.normal}[kind](build, key, site, size))
    return NumpyDevice().compile(plan_graph(build.build()))


class Draws:
    """Replaces random calls: the key of the step at hand, and the sites of its calls."""

    def __init__(self, key: torch.Tensor, sites: Sites) -> None:
        self._key, self._sites = key, sites

    def handles(self, func: Any) -> bool:
        """Say whether an ATen op draws, and is replaced."""
        return str(func) in HANDLERS or str(func) in _OWN_GENERATOR

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Do what an ATen op does, with the numbers of the next site."""
        if kwargs.pop("generator", None) is not None or str(func) in _OWN_GENERATOR:
            raise CaptureError(f"{func} draws from a generator of your own; leave it out, the job has a seed")
        return HANDLERS[str(func)](self, *args, **kwargs)

    def uniform(self, size: Sequence[int]) -> torch.Tensor:
        """Return f32 numbers in [0, 1)."""
        drawn: torch.Tensor = uniform_op(self._key, self._sites.next(), list(size))
        return drawn

    def normal(self, size: Sequence[int]) -> torch.Tensor:
        """Return f32 numbers of the standard normal distribution."""
        drawn: torch.Tensor = normal_op(self._key, self._sites.next(), list(size))
        return drawn

    def integers(self, low: int, high: int, size: Sequence[int]) -> torch.Tensor:
        """Return i64 numbers in [low, high)."""
        if not 0 < high - low < 1 << 63:
            raise CaptureError(f"random integers in [{low}, {high}): not a range below 2^63")
        drawn: torch.Tensor = integers_op(self._key, self._sites.next(), high - low, list(size))
        return drawn + low


class EagerDraws(TorchDispatchMode):
    """Replaces the random calls of an eager run."""

    def __init__(self, draws: Draws) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._draws = draws

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do one ATen call."""
        kwargs = dict(kwargs or {})
        return self._draws.call(func, args, kwargs) if self._draws.handles(func) else func(*args, **kwargs)


def _handler(*names: str) -> Callable[[Handler], Handler]:
    def register(function: Handler) -> Handler:
        HANDLERS.update({f"aten.{name}": function for name in names})
        return function

    return register


def _made(drawn: torch.Tensor, like: torch.Tensor | None, options: dict[str, Any]) -> torch.Tensor:
    """Give what was drawn the element type that the call asks for."""
    dtype = options.get("dtype")
    if dtype is None:
        dtype = torch.get_default_dtype() if like is None else like.dtype
    return drawn.to(dtype)


@_handler("bernoulli_.float", "bernoulli_.Tensor")
def _bernoulli_(own: Draws, x: torch.Tensor, p: Any = 0.5) -> torch.Tensor:
    return x.copy_(own.uniform(x.shape) < p)


@_handler("bernoulli.p")
def _bernoulli_p(own: Draws, x: torch.Tensor, p: float) -> torch.Tensor:
    return (own.uniform(x.shape) < p).to(x.dtype)


@_handler("bernoulli.default")
def _bernoulli(own: Draws, p: torch.Tensor) -> torch.Tensor:
    return (own.uniform(p.shape) < p).to(p.dtype)


@_handler("native_dropout.default")
def _native_dropout(own: Draws, x: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
    if not train or p == 0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    kept = own.uniform(x.shape) < 1 - p
    return x * kept * (0.0 if p == 1 else 1 / (1 - p)), kept


@_handler("rand.default")
def _rand(own: Draws, size: Sequence[int], **options: Any) -> torch.Tensor:
    return _made(own.uniform(size), None, options)


@_handler("rand_like.default")
def _rand_like(own: Draws, x: torch.Tensor, **options: Any) -> torch.Tensor:
    return _made(own.uniform(x.shape), x, options)


@_handler("uniform_.default")
def _uniform_(own: Draws, x: torch.Tensor, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    return x.copy_(own.uniform(x.shape) * (high - low) + low)


@_handler("randn.default")
def _randn(own: Draws, size: Sequence[int], **options: Any) -> torch.Tensor:
    return _made(own.normal(size), None, options)


@_handler("randn_like.default")
def _randn_like(own: Draws, x: torch.Tensor, **options: Any) -> torch.Tensor:
    return _made(own.normal(x.shape), x, options)


@_handler("normal_.default")
def _normal_(own: Draws, x: torch.Tensor, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    return x.copy_(own.normal(x.shape) * std + mean)


@_handler("normal.float_float")
def _normal(own: Draws, mean: float, std: float, size: Sequence[int], **options: Any) -> torch.Tensor:
    return _made(own.normal(size) * std + mean, None, options)


@_handler("exponential_.default")
def _exponential_(own: Draws, x: torch.Tensor, rate: float = 1.0) -> torch.Tensor:
    return x.copy_(torch.log(1 - own.uniform(x.shape)) * (-1 / rate))


@_handler("randint.default")
def _randint(own: Draws, high: int, size: Sequence[int], **options: Any) -> torch.Tensor:
    drawn: torch.Tensor = _randint_low(own, 0, high, size, **options)
    return drawn


@_handler("randint.low")
def _randint_low(own: Draws, low: int, high: int, size: Sequence[int], **options: Any) -> torch.Tensor:
    return _made(own.integers(low, high, size), None, {"dtype": torch.int64, **options})


@_handler("randint_like.default")
def _randint_like(own: Draws, x: torch.Tensor, high: int, **options: Any) -> torch.Tensor:
    return _made(own.integers(0, high, x.shape), x, options)


@_handler("randint_like.low_dtype")
def _randint_like_low(own: Draws, x: torch.Tensor, low: int, high: int, **options: Any) -> torch.Tensor:
    return _made(own.integers(low, high, x.shape), x, options)


@_handler("random_.from")
def _random_from(own: Draws, x: torch.Tensor, low: int, high: int) -> torch.Tensor:
    return x.copy_(own.integers(low, high, x.shape))


@_handler("random_.to")
def _random_to(own: Draws, x: torch.Tensor, high: int) -> torch.Tensor:
    return x.copy_(own.integers(0, high, x.shape))


@_handler("randperm.default")
def _randperm(own: Draws, n: int, **options: Any) -> torch.Tensor:
    order = torch.argsort(own.integers(0, _WIDE_SPAN, [n]), stable=True)
    return _made(order, None, {"dtype": torch.int64, **options})
