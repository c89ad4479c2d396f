import re

import pytest
import torch

from everyflop.backend.device import DTYPES, Device, detect, synchronize

CPU = torch.device("cpu")
without_accelerator = pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")


@without_accelerator
def test_without_an_accelerator_the_processor_is_the_device():
    found = detect()

    assert found.type == "cpu"
    assert found.torch == CPU
    assert re.search(r", \d+ cores$", found.name)


def test_the_processor_can_be_asked_for():
    assert detect(processor=True).torch == CPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
def test_an_accelerator_is_preferred_and_named():
    found = detect()

    assert found.torch.type == torch.accelerator.current_accelerator().type
    assert found.name


@without_accelerator
@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"bf16": True}, True),  # what an ARM processor calls it
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_bf16_is_fast_where_the_instruction_set_has_it(monkeypatch, capabilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    assert detect().fast_bf16 == fast


@pytest.mark.parametrize(("fast_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_bf16_only_where_that_is_fast(fast_bf16, precision):
    assert Device("cpu", "some processor", fast_bf16).best_precision == precision


def test_every_precision_has_a_type():
    assert dict(DTYPES) == {"bf16": torch.bfloat16, "fp32": torch.float32}


def test_the_processor_needs_no_synchronising():
    synchronize(CPU)
