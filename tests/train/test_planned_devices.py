import json
from types import SimpleNamespace

import pytest
import torch

from everyflop.base.errors import ExpectedNo
from everyflop.train.plan import open_plan
from everyflop.train.planned_devices import devices_here


@pytest.fixture
def planned(plan_for, make_run, tmp_path):
    """Open the plan of the tiny run with changes."""

    def make(**changes):
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(plan_for(make_run(), **changes)))
        return open_plan(path)

    return make


def test_a_device_of_another_type_is_an_expected_no_that_names_both(planned):
    with pytest.raises(ExpectedNo, match=r"far-away for laptop, which is torch device 'elsewhere', and here is '\w+'"):
        devices_here(planned(island={"device": "far-away", "torch_device": "elsewhere"}))


def test_a_plan_for_the_processor_runs_on_it_beside_an_accelerator(planned, monkeypatch):
    accelerator = SimpleNamespace(type="meta")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: accelerator)

    assert [device.type for device in devices_here(planned())] == ["cpu"]


def test_a_plan_that_names_no_type_runs_on_what_is_here(planned):
    assert devices_here(planned(island={"torch_device": ""}))
