import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from everyflop.backend import device as device_module
from everyflop.backend.device import DTYPES, Device, detect, matmul_flops_per_s, peak_rss_gib, synchronize

CPU = torch.device("cpu")
without_accelerator = pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")


@without_accelerator
def test_without_an_accelerator_the_processor_is_the_device():
    found = detect()

    assert found.type == "cpu"
    assert found.torch == CPU
    assert re.search(r", \d+ cores$", found.name)


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


def test_the_matmul_rate_is_that_of_the_best_burst(monkeypatch):
    # Now and its limit, then bursts of 2 s, 1 s and 4 s: start, end and a look at the limit for each.
    clock = iter([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 7.0, 7.0])
    monkeypatch.setattr(device_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))

    rate = matmul_flops_per_s(CPU, torch.float32, seconds=5.0, size=8)

    assert rate == 4 * 2 * 8**3 / 1.0  # 4 products of 8 x 8 matrices in a second, a multiplication and an addition each


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_the_matmul_rate_is_measured_even_with_no_time_for_it(dtype):
    assert matmul_flops_per_s(CPU, dtype, seconds=0.0, size=8) > 0


def test_the_processor_needs_no_synchronising():
    synchronize(CPU)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says so in a second place")
def test_peak_memory_is_what_the_kernel_counted():
    high_water_kib = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1))

    assert peak_rss_gib() == pytest.approx(high_water_kib / 2**20, rel=0.01)  # the kernel counts in batches of pages
