"""The batch size as a function of tokens seen: small at first, when gradients agree, then full."""

from everyflop.spec.train import TrainSpec


def batch_tokens_at(tokens_done: int, train: TrainSpec) -> int:
    """Return the tokens of the step that starts after `tokens_done` tokens.

    The batch grows linearly from batch_warmup_from to batch_tokens over batch_warmup_tokens, in whole micro-batches
    (whole sequences while micro_batch is unset). Raises ValueError when batch_tokens is unset: defaults come first.
    """
    if train.batch_tokens is None:
        raise ValueError("batch_tokens must be set before the schedule is asked")
    if train.batch_warmup_from is None or tokens_done >= train.batch_warmup_tokens:
        return train.batch_tokens
    unit = train.seq_len * (train.micro_batch or 1)
    growth = train.batch_tokens - train.batch_warmup_from
    # Integers throughout: a float would round the same token count differently at 2**53 and beyond.
    return train.batch_warmup_from + growth * tokens_done // train.batch_warmup_tokens // unit * unit
