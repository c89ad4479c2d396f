"""Measure a model on held-out text: loss a token and bits a byte."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from everyflop.data.windows import WindowSet
from everyflop.model.transformer import CausalLM
from everyflop.train.step import window_losses

WINDOWS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Validation:
    """The result on one set. Bits a byte count end-of-text tokens' bits and the text's UTF-8 bytes."""

    loss: float
    bits_per_byte: float
    tokens: int


@torch.no_grad()
def validate(
    model: CausalLM,
    windows: WindowSet,
    device: torch.device,
    *,
    limit: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Validation:
    """Return the mean loss in nats over a whole set, or over `limit` evenly spaced windows of it.

    With a limit the bits a byte are the set's bytes scaled by the share of its tokens seen.
    """
    n = len(windows)
    count = n if limit is None else min(limit, n)
    indices = [i * n // count for i in range(count)]
    ce, tokens = 0.0, 0
    for first in range(0, count, WINDOWS_AT_ONCE):
        chunk = indices[first : first + WINDOWS_AT_ONCE]
        sums = window_losses(model, windows.windows(chunk), device)
        ce, tokens = ce + sums.ce.item(), tokens + int(sums.tokens.item())
        advance(len(chunk))
    seen_bytes = windows.text_bytes * tokens / windows.n_tokens
    return Validation(ce / tokens, ce / math.log(2) / seen_bytes, tokens)
