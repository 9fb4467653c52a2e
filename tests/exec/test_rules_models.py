"""Whole models through the lowering rules: a convolutional net and tiny random transformers against eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from tests.exec.kernel_devices import LAYOUTS, check_same  # noqa: E402
from tests.exec.lowered import check_like_eager, lowered, tensor, with_gradients  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from samebits.kernels.codegen.program import Layout  # noqa: E402
from samebits.kernels.optable import OPS  # noqa: E402

I64 = torch.int64
convolves = pytest.mark.skipif("conv_general_dilated" not in OPS, reason="the op table has no conv_general_dilated")


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, norm: Callable[[int], Any]) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, 3, padding=1, groups=2)
        self.shortcut = nn.Conv2d(before, after, 1, stride=2)
        self.norms = nn.ModuleList([norm(after), norm(after)])

    def forward(self, x: Any) -> Any:
        y = F.relu(self.norms[0](self.first(x)))
        return F.silu(self.norms[1](self.second(y)) + self.shortcut(x))


class ResidualNet(nn.Module):
    """Batch and group norm, max, average and global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Hardswish(), nn.MaxPool2d(3, 2, 1)
        )
        self.blocks = nn.Sequential(Block(4, 8, nn.BatchNorm2d), Block(8, 8, lambda n: nn.GroupNorm(2, n)))
        self.head = nn.Sequential(nn.AvgPool2d(2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def forward(self, x: Any) -> Any:
        return self.head(self.blocks(self.stem(x)))


def calls(model: nn.Module, **given: Any) -> tuple[Callable[..., Any], list[Any]]:
    """Return a model as a function of its parameters, its buffers and the tensors among its arguments."""
    buffers = dict(model.named_buffers())
    state = {name: value.detach().clone() for name, value in [*model.named_parameters(), *buffers.items()]}
    tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in given.items() if name not in tensors}

    def call(*flat: Any) -> Any:
        own = dict(zip(state, flat, strict=False))
        own |= {name: own[name].detach().clone() for name in buffers}
        inputs = dict(zip(tensors, flat[len(state) :], strict=True))
        results = torch.func.functional_call(model, own, (), inputs | others)
        found = [results] if isinstance(results, torch.Tensor) else list(results.values())
        return [y for y in found if isinstance(y, torch.Tensor)] + [own[name] for name in buffers]

    return call, [*state.values(), *tensors.values()]


@convolves
@pytest.mark.parametrize("training", [True, False])
def test_residual_net_and_all_its_gradients_match_eager(training: bool) -> None:
    torch.manual_seed(0)
    function, inputs = calls(ResidualNet().train(training), x=tensor((4, 3, 16, 16)))
    check_like_eager(function, inputs, tolerance=1e-4, noise=0.01)


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
IDS = tensor((2, 7), I64, low=3, high=50)
MASK = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])


def transformer(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return a tiny random model of a family, and arguments."""
    hf: Any = pytest.importorskip("transformers")
    common = {**SMALL, "vocab_size": 50, "max_position_embeddings": 32, "attn_implementation": "eager"}
    text = {"input_ids": IDS, "attention_mask": MASK}
    torch.manual_seed(0)
    if name == "BERT":
        return hf.BertForMaskedLM(hf.BertConfig(**common)), {**text, "labels": IDS}
    if name == "GPT-2":
        sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
        config = hf.GPT2Config(**sizes, vocab_size=50, attn_implementation="eager")
        return hf.GPT2LMHeadModel(config), {**text, "use_cache": False, "labels": IDS}
    if name == "Whisper":
        sides = {f"{side}_{key}": 2 for side in ("encoder", "decoder") for key in ("layers", "attention_heads")}
        ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
        audio = {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 20}
        feed = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
        config = hf.WhisperConfig(
            d_model=16, vocab_size=50, attn_implementation="eager", **sides, **ends, **audio, **feed
        )
        given = {"input_features": tensor((2, 8, 40)), "decoder_input_ids": IDS, "use_cache": False}
        return hf.WhisperForConditionalGeneration(config), given
    family = {"Llama": "Llama", "Mistral": "Mistral", "Qwen2": "Qwen2", "Gemma 2": "Gemma2"}[name]
    extra = {"sliding_window": 4} if name == "Mistral" else {}
    config = getattr(hf, f"{family}Config")(**common, **extra, num_key_value_heads=1, head_dim=8)
    return getattr(hf, f"{family}ForCausalLM")(config), {**text, "use_cache": False, "labels": IDS}


def families() -> list[Any]:
    names = ("BERT", "GPT-2", "Llama", "Mistral", "Qwen2", "Gemma 2")
    return [*names, pytest.param("Whisper", marks=convolves)]


@pytest.mark.parametrize("name", families())
def test_transformer_matches_eager(name: str) -> None:
    model, given = transformer(name)
    function, inputs = calls(model.eval(), **given)
    check_like_eager(function, inputs, gradients=False)


@pytest.mark.parametrize("name", ["BERT", "Llama", pytest.param("Whisper", marks=convolves)])
def test_gradients_of_a_transformer_match_eager(name: str) -> None:
    model, given = transformer(name)
    function, inputs = calls(model.eval(), **given)
    check_like_eager(lambda *flat: function(*flat)[:1], inputs, tolerance=1e-4, noise=0.01)


ON_DEVICE: dict[str, tuple[Callable[..., Any], Sequence[Any]]] = {
    "norms": (
        lambda x, w, b: (F.layer_norm(x, (6,), w, b), F.group_norm(x, 2, w[:4], b[:4]), x.var(1), x.norm(dim=2)),
        [tensor((3, 4, 6)), tensor((6,)), tensor((6,), seed=1)],
    ),
    "norms in bf16": (
        lambda x, w, b: (F.layer_norm(x, (6,), w, b), F.batch_norm(x, None, None, w[:4], b[:4], True)),
        [x.to(torch.bfloat16) for x in (tensor((3, 4, 6)), tensor((6,)), tensor((6,), seed=1))],
    ),
    "pools": (
        lambda x: (F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), F.avg_pool2d(x, 2)),
        [tensor((2, 3, 7, 9))],
    ),
    "indexing": (
        lambda x, i, v: (
            x[i],
            x.gather(1, i[None] % 6),
            x.scatter_add(1, v.long().abs() % 6, v),
            x.index_add(0, i, x[:3]),
        ),
        [tensor((5, 6)), torch.tensor([0, 3, 3]), tensor((5, 3)) * 3],
    ),
    "movement": (
        lambda x: (F.pad(x, (1, -1)), x.roll(2, 1), x.triu(1), x.diagonal(1), x.unfold(1, 3, 2), x.topk(2).values),
        [tensor((5, 6))],
    ),
    "formulas": (
        lambda x, t: (F.elu(x), F.mish(x), F.huber_loss(x, t), torch.fmod(x.detach(), t.detach()), x.logsumexp(1)),
        [tensor((5, 6)), tensor((5, 6), seed=1)],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ON_DEVICE)
def test_opencl_gives_the_bits_of_numpy(name: str, layout: Layout) -> None:
    function, inputs = ON_DEVICE[name]
    graph, arrays = lowered(with_gradients(function, inputs), inputs)
    check_same(graph, arrays, layout)
