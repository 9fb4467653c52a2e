"""Training steps of transformers as graphs: forward, a small reverse-mode differentiation, AdamW."""

from __future__ import annotations

from typing import Any

import numpy as np

from samebits.exec.builder import GraphBuilder, ValueRef
from samebits.exec.graph import Graph
from samebits.kernels.types import TensorType


class Tape:
    """A graph under construction that can append the gradients of a value."""

    def __init__(self) -> None:
        self.build = GraphBuilder()
        self.parameters: dict[str, ValueRef] = {}
        self._steps: list[tuple[str, tuple[ValueRef, ...], dict[str, Any], ValueRef]] = []
        self._sites = 0

    def op(self, name: str, *operands: ValueRef, **attributes: Any) -> ValueRef:
        """Append an operation and remember it."""
        result = self.build.op(name, *operands, **attributes)
        self._steps.append((name, operands, attributes, result))
        return result

    def parameter(self, name: str, *shape: int) -> ValueRef:
        """Return a trained tensor."""
        if name not in self.parameters:
            self.parameters[name] = self.build.input(f"state/model/{name}", TensorType("f32", shape))
        return self.parameters[name]

    def full(self, value: float, like: ValueRef) -> ValueRef:
        """Return a constant of a value's shape."""
        scalar = self.build.scalar(value, like.type.dtype)
        return self.build.op("broadcast_in_dim", scalar, shape=like.type.shape, broadcast_dimensions=())

    def spread(self, x: ValueRef, like: ValueRef, axes: tuple[int, ...]) -> ValueRef:
        """Broadcast x, which lacks `axes`, to a value's shape."""
        kept = tuple(axis for axis in range(like.type.rank) if axis not in axes)
        return self.op("broadcast_in_dim", x, shape=like.type.shape, broadcast_dimensions=kept)

    def linear(self, x: ValueRef, name: str, width: int, *, bias: bool) -> ValueRef:
        """Multiply by a weight and add a bias, both parameters."""
        y = self.op("dot_general", x, self.parameter(f"{name}.weight", x.type.shape[-1], width))
        return self.op("add", y, self.spread(self.parameter(f"{name}.bias", width), y, (0,))) if bias else y

    def norm(self, x: ValueRef, name: str, *, center: bool) -> ValueRef:
        """Normalize rows: LayerNorm, or RMSNorm without a mean."""
        if center:
            x = self.op("sub", x, self.spread(self._mean(x), x, (1,)))
        variance = self._mean(self.op("mul", x, x))
        scale = self.op("rsqrt", self.op("add", variance, self.full(1e-5, variance)))
        y = self.op("mul", x, self.spread(scale, x, (1,)))
        y = self.op("mul", y, self.spread(self.parameter(f"{name}.weight", x.type.shape[1]), y, (0,)))
        if center:
            y = self.op("add", y, self.spread(self.parameter(f"{name}.bias", x.type.shape[1]), y, (0,)))
        return y

    def _mean(self, x: ValueRef) -> ValueRef:
        total = self.op("reduce_sum", x, axes=(x.type.rank - 1,))
        return self.op("mul", total, self.full(1 / x.type.shape[-1], total))

    def softmax(self, x: ValueRef) -> ValueRef:
        """Normalize the exponentials along the last axis."""
        last = x.type.rank - 1
        top = self.build.op("reduce_max", x, axes=(last,))
        e = self.op("exp", self.op("sub", x, self.spread(top, x, (last,))))
        return self.op("div", e, self.spread(self.op("reduce_sum", e, axes=(last,)), e, (last,)))

    def dropout(self, x: ValueRef, step: ValueRef) -> ValueRef:
        """Zero a tenth of the elements, by random bits of a site of its own."""
        self._sites += 1
        build = self.build
        site = build.op("reshape", build.constant(np.array(self._sites, np.uint32)), new_sizes=(1,))
        key = build.op("concatenate", site, build.op("reshape", step, new_sizes=(1,)), dimension=0)
        counter = build.op("iota", dtype="u32", shape=(x.type.size, 4), dimension=0)
        bits = build.op("philox4x32", counter, key)
        ends = {"start_indices": (0, 0), "limit_indices": (x.type.size, 1), "strides": (1, 1)}
        bits = build.op("reshape", build.op("slice", bits, **ends), new_sizes=x.type.shape)
        keep = build.op("convert_element_type", build.op("gt", bits, self.full(1 << 28, bits)), new_dtype="f32")
        return self.op("mul", x, self.op("mul", keep, self.full(1 / 0.9, x)))

    def gradients(self, loss: ValueRef) -> dict[ValueRef, ValueRef]:
        """Return the gradient of a scalar with respect to every value it comes from."""
        found = {loss: self.full(1.0, loss)}
        for name, operands, attributes, result in reversed(self._steps):
            if result in found:
                for x, g in zip(operands, self._pull(name, operands, attributes, result, found[result]), strict=False):
                    found[x] = self.build.op("add", found[x], g) if x in found else g
        return found

    def _pull(
        self, name: str, x: tuple[ValueRef, ...], attributes: dict[str, Any], y: ValueRef, g: ValueRef
    ) -> list[ValueRef]:
        op = self.build.op
        match name:
            case "add":
                return [g, g]
            case "sub":
                return [g, op("neg", g)]
            case "mul":
                return [op("mul", g, x[1]), op("mul", g, x[0])]
            case "div":
                return [op("div", g, x[1]), op("neg", op("mul", g, op("div", y, x[1])))]
            case "exp":
                return [op("mul", g, y)]
            case "log":
                return [op("div", g, x[0])]
            case "tanh":
                return [op("mul", g, op("sub", self.full(1.0, y), op("mul", y, y)))]
            case "logistic":
                return [op("mul", op("mul", g, y), op("sub", self.full(1.0, y), y))]
            case "rsqrt":
                return [op("mul", g, op("mul", self.full(-0.5, y), op("mul", y, op("mul", y, y))))]
            case "reduce_sum":
                kept = tuple(axis for axis in range(x[0].type.rank) if axis not in attributes["axes"])
                return [op("broadcast_in_dim", g, shape=x[0].type.shape, broadcast_dimensions=kept)]
            case "broadcast_in_dim":
                added = tuple(a for a in range(y.type.rank) if a not in attributes["broadcast_dimensions"])
                return [op("reduce_sum", g, axes=added)]
            case "reshape":
                return [op("reshape", g, new_sizes=x[0].type.shape)]
            case "transpose":
                inverse = tuple(int(i) for i in np.argsort(attributes["permutation"]))
                return [op("transpose", g, permutation=inverse)]
            case "slice":
                low = attributes["start_indices"]
                high = tuple(n - end for n, end in zip(x[0].type.shape, attributes["limit_indices"], strict=True))
                return [op("pad", g, self.build.scalar(0.0, "f32"), low=low, high=high)]
            case "select_n":
                return [g, op("select_n", x[0], g, self.full(0.0, g)), op("select_n", x[0], self.full(0.0, g), g)]
            case "gather":
                return [op("scatter_add", self.full(0.0, x[0]), x[1], g)]
            case "dot_general":
                turn = (*range(y.type.rank - 2), y.type.rank - 1, y.type.rank - 2)
                left, right = (op("transpose", v, permutation=turn) for v in x)
                return [op("dot_general", g, right), op("dot_general", left, g)]
        raise AssertionError(f"no gradient of {name}")

    def adamw(self, gradients: dict[ValueRef, ValueRef], clip: float | None) -> None:
        """Declare the state after an update of every parameter, gradients scaled down to a norm if it is given."""
        op, scalar = self.build.op, self.build.scalar
        if clip is not None:
            trained = [*self.parameters.values()]
            gradients = dict(zip(trained, self._clip([gradients[p] for p in trained], clip), strict=True))
        powers = {}
        for name, beta in (("beta1_power", 0.9), ("beta2_power", 0.999)):
            power = self.build.input(f"state/optimizer/group0/{name}", TensorType("f64", ()))
            powers[name] = op("mul", power, scalar(beta, "f64"))
            self.build.output(f"state/optimizer/group0/{name}", powers[name])
        first, second = (op("sub", scalar(1.0, "f64"), power) for power in powers.values())
        size = op("convert_element_type", op("div", scalar(3e-4, "f64"), first), new_dtype="f32")
        root = op("convert_element_type", op("sqrt", second), new_dtype="f32")
        for name, p in self.parameters.items():
            g = gradients[p]
            m, v = (self.build.input(f"state/optimizer/{name}/{key}", p.type) for key in ("exp_avg", "exp_avg_sq"))
            decayed = op("mul", p, self.full(1 - 3e-6, p))
            m = op("add", m, op("mul", op("sub", g, m), self.full(0.1, p)))
            v = op("add", op("mul", v, self.full(0.999, v)), op("mul", op("mul", g, g), self.full(0.001, g)))
            axes = tuple(range(p.type.rank))
            below = op("add", op("div", op("sqrt", v), self.spread(root, p, axes)), self.full(1e-8, p))
            new = op("sub", decayed, op("mul", op("div", m, below), self.spread(size, p, axes)))
            self.build.output(f"state/model/{name}", new)
            self.build.output(f"state/optimizer/{name}/exp_avg", m)
            self.build.output(f"state/optimizer/{name}/exp_avg_sq", v)

    def _clip(self, gradients: list[ValueRef], norm: float) -> list[ValueRef]:
        op = self.build.op
        squares = [op("reduce_sum", op("mul", g, g), axes=tuple(range(g.type.rank))) for g in gradients]
        stacked = op("concatenate", *(op("reshape", s, new_sizes=(1,)) for s in squares), dimension=0)
        total = op("sqrt", op("reduce_sum", stacked, axes=(0,)))
        scale = op("min", op("div", self.build.scalar(norm, "f32"), total), self.build.scalar(1.0, "f32"))
        return [op("mul", g, self.spread(scale, g, tuple(range(g.type.rank)))) for g in gradients]


def _attention(tape: Tape, q: ValueRef, k: ValueRef, v: ValueRef, heads: int, step: ValueRef | None) -> ValueRef:
    tokens, width = q.type.shape

    def split(x: ValueRef) -> ValueRef:
        x = tape.op("reshape", x, new_sizes=(tokens, heads, width // heads))
        return tape.op("transpose", x, permutation=(1, 0, 2))

    q, k, v = split(q), split(k), split(v)
    scores = tape.op("dot_general", q, tape.op("transpose", k, permutation=(0, 2, 1)))
    scores = tape.op("mul", scores, tape.full((width // heads) ** -0.5, scores))
    rows, columns = (tape.build.op("iota", dtype="i32", shape=(tokens, tokens), dimension=axis) for axis in (0, 1))
    mask = tape.spread(tape.build.op("ge", rows, columns), scores, (0,))
    scores = tape.op("select_n", mask, tape.full(float("-inf"), scores), scores)
    weights = tape.softmax(scores)
    if step is not None:
        weights = tape.dropout(weights, step)
    joined = tape.op("transpose", tape.op("dot_general", weights, v), permutation=(1, 0, 2))
    return tape.op("reshape", joined, new_sizes=(tokens, width))


def _cut(tape: Tape, x: ValueRef, begin: int, end: int) -> ValueRef:
    rows = x.type.shape[0]
    return tape.op("slice", x, start_indices=(0, begin), limit_indices=(rows, end), strides=(1, 1))


def _gpt_block(tape: Tape, x: ValueRef, name: str, heads: int, step: ValueRef | None) -> ValueRef:
    width = x.type.shape[1]
    qkv = tape.linear(tape.norm(x, f"{name}.ln_1", center=True), f"{name}.attn.c_attn", 3 * width, bias=True)
    q, k, v = (_cut(tape, qkv, i * width, (i + 1) * width) for i in range(3))
    y = _attention(tape, q, k, v, heads, step)
    y = tape.linear(y, f"{name}.attn.c_proj", width, bias=True)
    x = tape.op("add", x, y if step is None else tape.dropout(y, step))
    y = tape.linear(tape.norm(x, f"{name}.ln_2", center=True), f"{name}.mlp.c_fc", 4 * width, bias=True)
    cube = tape.op("mul", tape.op("mul", tape.op("mul", y, y), y), tape.full(0.044715, y))
    inner = tape.op("tanh", tape.op("mul", tape.op("add", y, cube), tape.full(0.7978845608, y)))
    y = tape.op("mul", tape.op("mul", y, tape.full(0.5, y)), tape.op("add", inner, tape.full(1.0, y)))
    y = tape.linear(y, f"{name}.mlp.c_proj", width, bias=True)
    return tape.op("add", x, y if step is None else tape.dropout(y, step))


def _llama_block(tape: Tape, x: ValueRef, name: str, heads: int, angles: tuple[ValueRef, ValueRef]) -> ValueRef:
    width = x.type.shape[1]

    def turn(v: ValueRef) -> ValueRef:
        half = width // 2
        turned = tape.op("sub", tape.op("mul", _cut(tape, v, 0, half), angles[0]),
                         tape.op("mul", _cut(tape, v, half, width), angles[1]))  # fmt: skip
        padding = {"low": (0, 0), "high": (0, half)}
        wide = tape.build.op("pad", turned, tape.build.scalar(0.0, "f32"), **padding)
        return tape.op("add", v, wide)

    y = tape.norm(x, f"{name}.input_layernorm", center=False)
    q, k, v = (tape.linear(y, f"{name}.self_attn.{part}_proj", width, bias=False) for part in "qkv")
    y = _attention(tape, turn(q), turn(k), v, heads, None)
    x = tape.op("add", x, tape.linear(y, f"{name}.self_attn.o_proj", width, bias=False))
    y = tape.norm(x, f"{name}.post_attention_layernorm", center=False)
    gate = tape.linear(y, f"{name}.mlp.gate_proj", 4 * width, bias=False)
    gate = tape.op("mul", gate, tape.op("logistic", gate))
    y = tape.op("mul", gate, tape.linear(y, f"{name}.mlp.up_proj", 4 * width, bias=False))
    return tape.op("add", x, tape.linear(y, f"{name}.mlp.down_proj", width, bias=False))


def _declare_loss(tape: Tape, logits: ValueRef, clip: float | None) -> Graph:
    labels = tape.build.input("batch/y", TensorType("i32", logits.type.shape[:1]))
    places = tape.build.op("iota", dtype="i32", shape=logits.type.shape, dimension=1)
    spread = tape.build.op("broadcast_in_dim", labels, shape=logits.type.shape, broadcast_dimensions=(0,))
    chosen = tape.build.op("convert_element_type", tape.build.op("eq", places, spread), new_dtype="f32")
    product = tape.op("mul", tape.op("log", tape.softmax(logits)), chosen)
    loss = tape.op("reduce_sum", product, axes=(0, 1))
    tape.build.output("metrics/loss", loss)
    tape.adamw(tape.gradients(loss), clip)
    return tape.build.build()


def gpt_step(
    layers: int, *, width: int = 8, heads: int = 2, tokens: int = 4, vocabulary: int = 16,
    dropout: bool = True, clip: float | None = None,
) -> Graph:  # fmt: skip
    """Return a training step with the structure and the names of GPT-2."""
    tape = Tape()
    step = None
    if dropout:
        step = tape.build.input("state/step", TensorType("u32", ()))
        tape.build.output("state/step", tape.build.op("add", step, tape.build.scalar(1, "u32")))
    batch = tape.build.input("batch/x", TensorType("i32", (tokens,)))
    embedding = tape.parameter("transformer.wte.weight", vocabulary, width)
    places = tape.build.op("iota", dtype="i32", shape=(tokens,), dimension=0)
    place = tape.op("gather", tape.parameter("transformer.wpe.weight", tokens, width), places)
    x = tape.op("add", tape.op("gather", embedding, batch), place)
    for i in range(layers):
        x = _gpt_block(tape, x, f"transformer.h.{i}", heads, step)
    x = tape.norm(x, "transformer.ln_f", center=True)
    return _declare_loss(tape, tape.op("dot_general", x, tape.op("transpose", embedding, permutation=(1, 0))), clip)


def llama_step(
    layers: int, *, width: int = 8, heads: int = 2, tokens: int = 4, vocabulary: int = 16, clip: float | None = None
) -> Graph:
    """Return a training step with the structure and the names of Llama; its rotations depend on the batch."""
    tape = Tape()
    batch = tape.build.input("batch/x", TensorType("i32", (tokens,)))
    x = tape.op("gather", tape.parameter("model.embed_tokens.weight", vocabulary, width), batch)
    places = tape.build.input("batch/positions", TensorType("f32", (tokens,)))
    angle = tape.build.op("broadcast_in_dim", places, shape=(tokens, width // 2), broadcast_dimensions=(0,))
    angles = tape.build.op("cos", angle), tape.build.op("sin", angle)
    for i in range(layers):
        x = _llama_block(tape, x, f"model.layers.{i}", heads, angles)
    x = tape.norm(x, "model.norm", center=False)
    return _declare_loss(tape, tape.linear(x, "lm_head", vocabulary, bias=False), clip)
