from typing import Any

import pytest
from pydantic import ValidationError

from everyflop.spec.islands import IslandSpec, IslandsSpec


def test_the_defaults_are_rounds_by_the_clock_from_the_first_step_on_and_plain_averaging_of_fp32():
    how = IslandsSpec()

    assert (how.sync_share, how.steps, how.rounds) == (0.2, 4, "clock")
    assert (how.outer_lr, how.outer_momentum, how.merge, how.compress) == (1.0, 0.0, "steps", "fp32")
    assert how.guards


def test_an_island_needs_only_a_name():
    island = IslandSpec(name="a")

    assert (island.devices, island.slowdown, island.price_per_device_hour) == (1, 1.0, None)


@pytest.mark.parametrize("name", ["a", "H800-west.2", "0_1"])
def test_a_name_can_stand_in_a_path_and_a_table(name: str):
    assert IslandSpec(name=name).name == name


@pytest.mark.parametrize("name", ["", ".hidden", "-flag", "a/b", "a b", "a\n"])
def test_a_name_that_could_mislead_a_shell_or_a_path_is_refused(name: str):
    with pytest.raises(ValidationError):
        IslandSpec(name=name)


SIMULATED = [{"slowdown": 2.0}, {"numerics": "split"}, {"link_gbit_per_s": 1.0}, {"link_latency_ms": 10.0}]


@pytest.mark.parametrize("facts", SIMULATED)
def test_other_devices_and_thin_or_long_links_are_simulated(facts: dict[str, Any]):
    assert IslandSpec(name="a", **facts).simulated


def test_an_island_as_it_is_is_not_simulated():
    assert not IslandSpec(name="a", devices=8, threads=2, price_per_device_hour=1.5).simulated


@pytest.mark.parametrize(
    "facts",
    [
        {"devices": 0},
        {"threads": 0},
        {"price_per_device_hour": -1.0},
        {"slowdown": 0.5},
        {"link_gbit_per_s": 0.0},
        {"link_latency_ms": -1.0},
        {"gpus": 8},
    ],
)
def test_an_island_refuses_what_no_machine_has(facts: dict[str, Any]):
    with pytest.raises(ValidationError):
        IslandSpec(name="a", **facts)


@pytest.mark.parametrize(
    "facts",
    [
        {"steps": 0},
        {"sync_share": 1.1},
        {"rounds": "moon"},
        {"round_s": 0.0},
        {"outer_lr": 0.0},
        {"outer_momentum": 1.0},
        {"merge": "mean"},
        {"compress": "fp8"},
        {"heartbeat_s": 0.0},
        {"hang_s": 0.0},
        {"restarts": -1},
        {"steps": "sometimes"},
        {"steps": "auto", "rounds": "steps"},
        {"steps": "auto", "round_s": 10.0},
        {"quorum": 2},
    ],
)
def test_islands_refuse_what_makes_no_sense(facts: dict[str, Any]):
    with pytest.raises(ValidationError):
        IslandsSpec(**facts)
