from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.spec.plausible import RANGES, implausible


def hints(tables: dict[str, Any]) -> dict[str, str]:
    return {problem.key: problem.hint for problem in implausible(tables)}


def one(key: str, value: Any, **others: Any) -> dict[str, Any]:
    table, name = key.split(".")
    return {table: [{name: value, **others}]}


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("pool.scale_out_gbit_per_s", 400e9, "it looks like bit/s: write 400"),
        ("pool.scale_out_gbit_per_s", 400_000, "it looks like Mbit/s: write 400"),
        ("pool.scale_out_gbit_per_s", 10_000, "it looks like Mbit/s: write 10"),
        ("pool.restart_minutes", 1800, "it looks like seconds: write 30"),
        ("pool.checkpoint_gb_per_s", 2e9, "it looks like bytes/s: write 2"),
        ("pool.devices_per_node", 1_000_000, "what fast links connect: 8 in most servers"),
        ("pool.failures_per_device_day", 27, "expected 1e-09 to 24 failures a day"),
        ("link.gbit_per_s", 100e9, "it looks like bit/s: write 100"),
        ("link.gbit_per_s", 2_000_000, "it looks like Mbit/s: write 2000"),
        ("link.gbit_per_s", 1e9, "it looks like bit/s: write 1"),
        ("link.latency_ms", 30_000, "it looks like microseconds: write 30"),
        ("device.bf16_tflops", 989e12, "it looks like FLOP/s: write 989"),
        ("device.bf16_tflops", 989_000, "it looks like GFLOP/s: write 989"),
        ("device.mem_gb", 81_920, "it looks like MB: write 81.92"),
        ("device.mem_gb", 80e9, "it looks like bytes: write 80"),
        ("device.mem_bw_gb_per_s", 0.9, "it looks like TB/s: write 900"),
        ("device.mem_bw_gb_per_s", 3.35e12, "it looks like bytes/s: write 3350"),
        ("device.tdp_w", 0.7, "it looks like kW: write 700"),
        ("measured.peak_mem_gib", 81_920, "it looks like MiB: write 80"),
    ],
)
def test_a_number_in_another_unit_is_found_with_what_to_write(key: str, value: float, hint: str):
    table, name = key.split(".")

    assert hints(one(key, value)) == {f"{table}[0].{name}": hint}


def test_each_entry_is_judged_by_itself():
    found = hints({"device": [{"mem_gb": 80}, {"mem_gb": 80e9}], "pool": [{"restart_minutes": 10}]})

    assert list(found) == ["device[1].mem_gb"]


@pytest.mark.parametrize("value", ["400e9", True, None, [1], float("nan"), float("inf"), 0, -5])
def test_what_is_no_positive_number_is_left_to_validation(value: Any):
    tables = {key.split(".")[0]: [] for key in RANGES}
    for key in RANGES:
        table, name = key.split(".")
        tables[table].append({name: value})

    assert hints(tables) == {}


@given(st.sampled_from(sorted(RANGES)), st.floats(1e-15, 1e15))
def test_what_a_hint_says_to_write_is_plausible(key: str, value: float):
    for hint in hints(one(key, value)).values():
        if "write" in hint:
            assert hints(one(key, float(hint.rsplit(" ", 1)[1]))) == {}


REAL = {
    "pool.scale_out_gbit_per_s": [1, 50, 800, 1600],  # a home network, a TPU v5p, GB300, the next
    "link.gbit_per_s": [0.11, 400, 512 * 400],  # Covenant-72B's uplinks, a port, a whole pool in one hall
    "link.latency_ms": [0.002, 600],  # a rack, a satellite
    "device.bf16_tflops": [0.05, 989, 125_000],  # a laptop, H100, a wafer
    "device.mem_gb": [4, 80, 288, 6_000],  # the last: a CPU host
    "device.mem_bw_gb_per_s": [8, 3350, 22_000],
    "device.tdp_w": [15, 700, 2300],
    "pool.devices_per_node": [1, 8, 72, 9216],  # the last: a whole torus of TPUs
    "pool.failures_per_device_day": [0.0003, 0.0027, 4],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in REAL.items() for value in values])
def test_what_exists_is_plausible(key: str, value: float):
    assert hints(one(key, value)) == {}
