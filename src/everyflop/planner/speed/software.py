"""Training software, as far as speed depends on it: read from what a measurement says, grouped into stacks."""

import re

EVERYFLOP = "everyflop"

_STACKS = {
    EVERYFLOP: "megatron",
    "megatron-bridge": "megatron",
    "megatron-lm": "megatron",
    "te": "megatron",
    "flagperf": "megatron",
    "primus": "megatron",
    "mindspeed": "megatron",
    "torchtitan": "torch",
    "composer": "torch",
    "atorch": "torch",
    "automodel": "torch",
    "maxtext": "xla",
    "optimum-habana": "torch",
}
"""Software and the stack it belongs to: fused kernels and overlapped collectives, plain torch with FSDP, XLA.

everyflop is counted to the first until it is measured on accelerators: the layouts that it plans are of that kind.
"""

_WORDS = {
    "automodel": r"automodel",
    "megatron-bridge": r"bridge|nemo",
    "primus": r"primus",
    "flagperf": r"flagperf",
    "mindspeed": r"mindspeed",
    "torchtitan": r"torchtitan",
    "composer": r"composer|foundry",
    "atorch": r"atorch",
    "maxtext": r"maxtext",
    "optimum-habana": r"habana|gaudi",
    "everyflop": r"everyflop",
    "te": r"\bte\b|transformer engine",
    "megatron-lm": r"megatron|mcore",
}


_STACK_WORDS = {"xla": r"\bjax\b|xla\b|\btpu", "torch": r"fsdp|deepspeed|torch|hugging ?face|\bhf\b"}
"""What an unknown software is built on, where its description says so."""


def software_of(text: str) -> str:
    """Return the software that a text such as "Megatron-Bridge / NeMo 26.06" names; the text itself if unknown."""
    low = text.lower()
    return next((name for name, words in _WORDS.items() if re.search(words, low)), low.strip())


def stack_of(software: str) -> str:
    """Return the stack of a software; of an unknown one, what it says it is built on, else the commonest."""
    if known := _STACKS.get(software):
        return known
    return next((stack for stack, words in _STACK_WORDS.items() if re.search(words, software)), "megatron")


def is_known(software: str) -> bool:
    """Whether the stack of a software is known, not guessed."""
    return software in _STACKS
