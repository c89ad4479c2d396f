import re
from pathlib import Path

import pytest
import torch

from everyflop.backend.memory import peak_gib, peak_rss_gib, total_bytes

CPU = torch.device("cpu")
PROC = Path("/proc")
on_linux = pytest.mark.skipif(not (PROC / "self" / "status").exists(), reason="only Linux says so in a second place")


def kib(file: str, name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+) kB", (PROC / file).read_text()).group(1))


@on_linux
def test_peak_memory_is_what_the_kernel_counted():
    # The kernel counts in batches of pages.
    assert peak_rss_gib() == pytest.approx(kib("self/status", "VmHWM") / 2**20, rel=0.01)
    assert peak_gib(CPU) == pytest.approx(peak_rss_gib(), rel=0.01)


@on_linux
def test_the_processors_memory_is_the_machines():
    assert total_bytes(CPU) == kib("meminfo", "MemTotal") * 1024


@pytest.mark.gpu
@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
def test_an_accelerators_memory_is_its_own_and_tensors_count():
    device = torch.device(torch.accelerator.current_accelerator().type)
    before = peak_gib(device)
    tensor = torch.empty(2**28, device=device)  # 1 GiB

    assert peak_gib(device) >= max(before, 1.0)
    assert tensor.nbytes < total_bytes(device)
