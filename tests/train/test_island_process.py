"""What an island's process does with its files."""

from pathlib import Path

import pytest
import torch

from everyflop.base.errors import UsageError
from everyflop.checkpoint import list_checkpoints, save
from everyflop.train.island_process import keep_plan_of_run, put_other_pasts_aside
from everyflop.train.plan import Planned
from everyflop.train.run_dir import RunDir


def test_checkpoints_of_a_past_that_the_run_has_gone_back_from_are_put_aside(tmp_path):
    commits = {step: {"round": step // 20, "time": f"2026-01-01 00:00:{step:02d}"} for step in (20, 40, 50, 60)}
    for step, record in commits.items():
        state = {"island": {"record": record}}
        save(tmp_path, step, tensors={"model.w": torch.zeros(1)}, state=state, files={}, keep=9)

    put_other_pasts_aside(tmp_path, 40, commits[40])
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000020", "step-00000040"]
    put_other_pasts_aside(tmp_path, 40, {**commits[40], "time": "of another past"})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000020"]
    assert [path.name for path in tmp_path.glob("given-up-*")] == ["given-up-step-00000040"]


def test_the_plan_that_a_run_follows_is_kept_once_and_never_replaced_by_an_island(tmp_path):
    shared = RunDir(tmp_path)
    one, other = (Planned(Path(f"{name}.json"), name.encode(), None) for name in ("one", "other"))

    keep_plan_of_run(one, shared)
    keep_plan_of_run(one, shared)
    with pytest.raises(UsageError, match=r"follows another plan here, .*plan\.json, than other\.json"):
        keep_plan_of_run(other, shared)

    assert shared.plan.read_bytes() == b"one"
