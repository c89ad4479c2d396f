"""What an island's process does with its files."""

import torch

from everyflop.checkpoint import list_checkpoints, save
from everyflop.train.island_process import put_other_pasts_aside


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
