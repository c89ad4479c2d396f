"""Continue a text, one token at a time, with cached keys and values.

Shapes: T prompt tokens, V vocabulary.
"""

import math
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from everyflop.base.errors import ExpectedNo, UsageError
from everyflop.model.cache import KVCache
from everyflop.model.transformer import CausalLM


def generate(
    model: CausalLM,
    prompt: Sequence[int],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: Collection[int] = (),
) -> Iterator[int]:
    """Return an iterator over up to max_tokens new ids; it ends early at any of stop_ids, which it does not yield.

    Temperature 0 is greedy. Else ids are drawn from the smallest set of the likeliest ones that holds top_p of the
    probability. Same seed, same text. Raises UsageError for an empty prompt, one that leaves no room, or a
    temperature that is negative, infinite or NaN; ExpectedNo, on the way, for a model whose logits are not finite.
    """
    _check(model, prompt, max_tokens)
    if not 0 <= temperature < math.inf:
        raise UsageError(
            f"a temperature of {temperature} cannot be drawn at. Give 0 (greedy) or a finite number above it."
        )
    return _generate(model, prompt, max_tokens, temperature, top_p, seed, stop_ids)


@torch.no_grad()
def _generate(
    model: CausalLM,
    prompt: Sequence[int],
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    stop_ids: Collection[int],
) -> Iterator[int]:
    random = torch.Generator().manual_seed(seed)
    device = model.embed.weight.device
    cache = KVCache(len(prompt) + max_tokens)
    ids = torch.tensor([list(prompt)], device=device)
    for _ in range(max_tokens):
        logits_V = model(ids, cache)[0, -1]
        if not logits_V.isfinite().all():
            raise ExpectedNo("the model's logits are not finite: its weights have diverged, or are damaged.")
        chosen = int(logits_V.argmax()) if temperature == 0 else draw(logits_V, temperature, top_p, random)
        if chosen in stop_ids:
            return
        yield chosen
        ids = torch.tensor([[chosen]], device=device)


def draw(logits_V: Tensor, temperature: float, top_p: float, random: torch.Generator) -> int:
    """Sample one id on the CPU, so that every device draws the same from the same logits."""
    logits_V = logits_V.cpu().double()  # some accelerators have no fp64
    probabilities_V = ((logits_V - logits_V.max()) / temperature).softmax(-1)  # the largest is 0: nothing overflows
    sorted_V, order_V = probabilities_V.sort(descending=True, stable=True)
    before_V = sorted_V.cumsum(0) - sorted_V
    left_out_V = before_V >= top_p
    left_out_V[0] = False  # top_p = 0 still leaves the likeliest
    sorted_V = sorted_V.masked_fill(left_out_V, 0.0)
    return int(order_V[torch.multinomial(sorted_V, 1, generator=random)])


def _check(model: CausalLM, prompt: Sequence[int], max_tokens: int) -> None:
    if not prompt:
        raise UsageError("the prompt has no tokens. Give at least one, such as the end-of-text token.")
    if bad := [i for i in prompt if not 0 <= i < model.spec.vocab_size]:
        raise UsageError(
            f"token {bad[0]} is not in the model's vocabulary of {model.spec.vocab_size}: wrong tokenizer?"
        )
    if len(prompt) + max_tokens > model.spec.max_positions:
        raise UsageError(
            f"{len(prompt)} prompt tokens and {max_tokens} new ones exceed the model's "
            f"{model.spec.max_positions} positions. Shorten the prompt or lower --max-tokens."
        )
