"""Training software as tables write it, and the stack it belongs to."""

import pytest

from everyflop.planner.speed.software import EVERYFLOP, is_known, software_of, stack_of


@pytest.mark.parametrize(
    ("text", "name", "stack"),
    [
        ("Megatron-Bridge / NeMo 26.06", "megatron-bridge", "megatron"),
        ("Megatron-LM (NeMo perf scripts)", "megatron-bridge", "megatron"),
        ("Megatron-Core 0.9", "megatron-lm", "megatron"),
        ("Megatron-LM 0.14, TE 2.11", "te", "megatron"),
        ("Primus-Megatron", "primus", "megatron"),
        ("FlagPerf Megatron", "flagperf", "megatron"),
        ("MindSpeed / Ascend", "mindspeed", "megatron"),
        ("LLM-foundry / Composer FSDP", "composer", "torch"),
        ("torchtitan", "torchtitan", "torch"),
        ("ATorch FSDP", "atorch", "torch"),
        ("NeMo AutoModel", "automodel", "torch"),
        ("Optimum-Habana", "optimum-habana", "torch"),
        ("MaxText", "maxtext", "xla"),
        ("everyflop 0.1", EVERYFLOP, "megatron"),
    ],
)
def test_software_is_known_by_its_name(text, name, stack):
    assert (software_of(text), stack_of(name)) == (name, stack)


def test_unknown_software_is_one_of_its_own_on_the_commonest_stack():
    assert software_of(" HAI-LLM (DualPipe)") == "hai-llm (dualpipe)"
    assert stack_of("hai-llm (dualpipe)") == "megatron"


@pytest.mark.parametrize(
    ("text", "stack"),
    [("PyTorch FSDP", "torch"), ("HF Trainer", "torch"), ("DeepSpeed ZeRO-3", "torch"), ("Levanter JAX", "xla")],
)
def test_unknown_software_that_says_what_it_is_built_on_is_of_that_stack(text, stack):
    assert stack_of(software_of(text)) == stack
    assert not is_known(software_of(text))
