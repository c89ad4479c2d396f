from types import SimpleNamespace

import pytest
import torch

from everyflop.backend import rates as rates_module
from everyflop.backend.device import DTYPES
from everyflop.backend.rates import matmul_flops_per_s, memory_bytes_per_s

CPU = torch.device("cpu")


def test_the_matmul_rate_is_that_of_the_best_burst(monkeypatch):
    # Now and its limit, then bursts of 2 s, 1 s and 4 s: start, end and a look at the limit for each.
    clock = iter([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 7.0, 7.0])
    monkeypatch.setattr(rates_module, "FEWEST_BURSTS", 1)
    monkeypatch.setattr(rates_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))

    rate = matmul_flops_per_s(CPU, torch.float32, seconds=5.0, shape=(8, 8, 8))

    assert rate == 4 * 2 * 8**3 / 1.0  # 4 products of 8 x 8 matrices in a second, a multiplication and an addition each


@pytest.mark.parametrize("dtype", DTYPES.values())
def test_the_matmul_rate_is_measured_even_with_no_time_for_it(dtype):
    assert matmul_flops_per_s(CPU, dtype, seconds=0.0, shape=(8, 8, 8)) > 0


def test_a_matmul_counts_the_floating_point_operations_of_its_shape(monkeypatch):
    clock = iter([0.0, 1.0, 1.0, 3.0, 3.0])
    monkeypatch.setattr(rates_module, "FEWEST_BURSTS", 1)
    monkeypatch.setattr(rates_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))

    assert matmul_flops_per_s(CPU, torch.float32, seconds=0.0, shape=(2, 3, 5)) == 4 * 2 * 30 / 2.0


def test_memory_is_counted_by_the_bytes_read_and_written(monkeypatch):
    # A copy in 1 s, 2 MiB moved; then an addition in 1 s, 3 MiB moved.
    clock = iter([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0])
    monkeypatch.setattr(rates_module, "FEWEST_BURSTS", 1)
    monkeypatch.setattr(rates_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))

    assert memory_bytes_per_s(CPU, seconds=0.0, mib=1) == 3 * 2**20
