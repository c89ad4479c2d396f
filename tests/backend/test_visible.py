"""Stands in for a machine with accelerators: what variables are set to, and not that a vendor's library reads them."""

import pytest
import torch

from everyflop.backend.visible import one_of_several


@pytest.fixture
def has(monkeypatch):
    """Let this machine have so many accelerators of a type."""

    def of(kind: str | None, count: int, *, hip: str | None = None) -> None:
        found = torch.device(kind) if kind else None
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: found)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
        monkeypatch.setattr(torch.version, "hip", hip)
        for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
            monkeypatch.delenv(variable, raising=False)

    return of


@pytest.mark.parametrize(("kind", "count"), [(None, 0), ("cuda", 1), ("mps", 2)])
def test_nothing_is_chosen_where_there_are_not_several_or_nobody_knows_how(has, kind, count):
    has(kind, count)

    assert one_of_several(0) == {}


def test_each_number_sees_another_accelerator_until_there_are_no_more(has):
    has("cuda", 2)

    assert [one_of_several(n) for n in range(3)] == [{"CUDA_VISIBLE_DEVICES": name} for name in ("0", "1", "0")]


def test_only_those_that_this_process_sees_are_handed_out(has, monkeypatch):
    has("cuda", 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")

    assert [one_of_several(n)["CUDA_VISIBLE_DEVICES"] for n in range(2)] == ["5", "7"]


def test_each_vendor_has_its_variable(has):
    has("cuda", 2, hip="6.4")
    assert one_of_several(1) == {"HIP_VISIBLE_DEVICES": "1"}
    has("xpu", 2)
    assert one_of_several(1) == {"ZE_AFFINITY_MASK": "1"}
