"""The learning rate as a function of tokens seen: pure, and the same for any batch size or number of devices."""

from math import cos, pi, sqrt

from everyflop.spec.train import OptimSpec

# Ling-Plus (arXiv 2503.05139, section 3.4): constant, halved at about 60 % of the tokens, at last annealed from half
# the peak to 1e-4 of that. The paper gives no length for the anneal: the last tenth of the tokens is our choice.
_LING_HALVED_AT = 0.6
_LING_ANNEAL_FROM = 0.9
_LING_ANNEAL_FLOOR = 1e-4


def lr_at(tokens_done: int, *, batch_tokens: int, optim: OptimSpec, peak_lr: float, total_tokens: int) -> float:
    """Return the learning rate of the step that starts after `tokens_done` tokens and uses `batch_tokens`.

    Warm-up is read at the end of the step and decay at its start, so that neither the first nor the last step of a
    run has a rate of 0. Past total_tokens the rate stays at its final value.
    """
    warmup_tokens = optim.warmup_share * total_tokens
    warmup = min(1.0, (tokens_done + batch_tokens) / warmup_tokens) if warmup_tokens else 1.0
    if optim.schedule == "ling-v1":
        return peak_lr * warmup * _ling_v1(min(1.0, tokens_done / total_tokens))
    progress = min(1.0, max(0.0, (tokens_done - warmup_tokens) / (total_tokens - warmup_tokens)))
    return peak_lr * warmup * _decay(progress, optim)


def _decay(progress: float, optim: OptimSpec) -> float:
    """Return the share of the peak after a share `progress` of the tokens that follow the warm-up."""
    match optim.schedule:
        case "cosine":
            share = cos(pi * progress / 2) ** 2  # not (1 + cos) / 2, which rounds to 0 before the last step
            return optim.final_share + (1 - optim.final_share) * share
        case "linear":
            return 1 - (1 - optim.final_share) * progress
        case _:
            return 1.0


def _ling_v1(progress: float) -> float:
    """Return the share of the peak after a share `progress` of all tokens.

    The paper calls the anneal an inverse square root; its authors use that name for 1 - sqrt (arXiv 2507.17634).
    """
    if progress < _LING_HALVED_AT:
        return 1.0
    anneal = max(0.0, (progress - _LING_ANNEAL_FROM) / (1 - _LING_ANNEAL_FROM))
    return 0.5 * (_LING_ANNEAL_FLOOR + (1 - _LING_ANNEAL_FLOOR) * (1 - sqrt(min(1.0, anneal))))
