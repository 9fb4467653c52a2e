"""Capture greedy generation by a causal language model of `transformers`, with a static cache, as a step of a job."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch

from samebits.exec.capture.inference import POSITION
from samebits.exec.capture.model_program import ModelProgram
from samebits.exec.capture.subject import Tensors
from samebits.exec.errors import CaptureError
from samebits.exec.outputs import OUTPUT

PROMPT: Final = "prompt"
TOKENS: Final = OUTPUT + "tokens"
STOPPED: Final = "stopped"


class GenerationProgram(ModelProgram):
    """One token of every sequence a step, as `model.generate` without sampling gives them.

    Step t reads the token at position t, of the prompt or of what was generated, puts its keys and values in the cache
    and writes the token with the greatest logit (the first of equal ones) at position t + 1, unless the prompt has
    one there. After `stop_token` a sequence goes on with `pad_token`. The state holds `cache/I/keys`, `cache/I/values`,
    `position` and `output/tokens` (rows, prompt length + new tokens).
    """

    def __init__(
        self, model: Any, prompt: torch.Tensor, new_tokens: int, stop_token: int | None, pad_token: int
    ) -> None:
        """`prompt`: (rows, length) i64. Raises CaptureError for a model whose cache is of another kind."""
        super().__init__(model)
        self._stop, self._pad, self._length = stop_token, pad_token, prompt.shape[1]
        total = prompt.shape[1] + new_tokens
        self.steps = total - 1
        self._cache = self._first_cache(prompt, total)
        for name, tensor in self._cache_tensors(self._cache).items():
            self.make(name, tensor)
        self.make(TOKENS, prompt.new_empty((prompt.shape[0], total)))
        self.make(POSITION, torch.tensor(0))
        if stop_token is not None:
            self.make(STOPPED, torch.zeros(prompt.shape[0], dtype=torch.bool))

    def _first_cache(self, prompt: torch.Tensor, total: int) -> Any:
        """Return a cache that one token has given its shapes; raises CaptureError."""
        from transformers import StaticCache
        from transformers.cache_utils import StaticLayer

        config: Any = self.model.config
        cache = StaticCache(config=config, max_cache_len=total)
        for layer in cache.layers:
            if type(layer) is not StaticLayer:
                raise CaptureError(
                    f"the model's cache has a {type(layer).__name__}, which counts in Python; generation_job wants "
                    "layers with full attention"
                )
        with self.kept():
            self.model(input_ids=prompt[:, :1], past_key_values=cache, use_cache=True)
        return cache

    @staticmethod
    def _cache_tensors(cache: Any) -> Tensors:
        return {
            f"cache/{i}/{part}": getattr(layer, part)
            for i, layer in enumerate(cache.layers)
            for part in ("keys", "values")
        }

    def _cache_of(self, state: Tensors) -> Any:
        """Return a cache that works on tensors of the state."""
        cache = copy.copy(self._cache)
        cache.layers = [copy.copy(layer) for layer in self._cache.layers]
        for i, layer in enumerate(cache.layers):
            layer.keys, layer.values = state[f"cache/{i}/keys"].clone(), state[f"cache/{i}/values"].clone()
            layer.cumulative_length = state[POSITION].clone()
        return cache

    def advance(self, state: Tensors, arguments: Tensors) -> Tensors:
        """Return the state after one more token of each sequence."""
        prompt, at, cache = arguments[PROMPT], state[POSITION], self._cache_of(state)
        tokens = torch.where(
            torch.arange(state[TOKENS].shape[1]) < self._length, self._padded(prompt, state), state[TOKENS]
        )
        token = tokens.index_select(1, at.reshape(1))
        logits = self.model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1]
        found = logits.float().argmax(-1)
        new = self._cache_tensors(cache) | {POSITION: at + 1}
        in_prompt = at + 1 < self._length
        if self._stop is not None:
            found = torch.where(state[STOPPED], self._pad, found)
            new[STOPPED] = state[STOPPED] | ((found == self._stop) & ~in_prompt)
        kept = tokens.index_select(1, (at + 1).reshape(1))[:, 0]
        new[TOKENS] = tokens.index_copy(1, (at + 1).reshape(1), torch.where(in_prompt, kept, found)[:, None])
        return new

    def _padded(self, prompt: torch.Tensor, state: Tensors) -> torch.Tensor:
        rest = state[TOKENS].shape[1] - self._length
        return torch.nn.functional.pad(prompt, (0, rest))
