from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from everyflop.base.errors import DamagedFile, UsageError
from everyflop.checkpoint import merge, open_checkpoint, save


def keep_one(folder: Path, step: int, tensors: dict[str, Tensor], **extra: Any) -> Path:
    files = extra.pop("files", {"model.json": b"{}", "tokenizer.json": b"new" if step == 2 else b"old"})
    return save(folder, step, tensors=tensors, state={"tokens": 10 * step}, files=files, keep=9)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    def tensors(step: float) -> dict[str, Tensor]:
        return {
            "model.w": torch.tensor([1.0, 10.0]) * step,
            "model.router.expert_bias": torch.tensor([step]),
            "model.bf16": torch.full((2,), step, dtype=torch.bfloat16),
            "model.seen": torch.tensor(int(step)),
            "router.spread": torch.tensor(step),
            "exp_avg.w": torch.ones(2),
        }

    return [keep_one(tmp_path / "checkpoints", 1, tensors(1.0)), keep_one(tmp_path / "checkpoints", 2, tensors(2.0))]


def test_a_merge_is_the_weighted_sum_of_weights_and_router_statistics(two: list[Path], tmp_path: Path):
    merge(two, tmp_path / "merged", weights=[0.25, 0.75])

    loaded = open_checkpoint(tmp_path / "merged").load("")
    assert loaded["model.w"].tolist() == [1.75, 17.5]
    assert loaded["model.router.expert_bias"].tolist() == [1.75]
    assert loaded["model.bf16"].tolist() == [1.75, 1.75]
    assert loaded["model.bf16"].dtype == torch.bfloat16
    assert loaded["router.spread"].item() == 1.75


def test_weights_belong_to_the_paths_in_the_order_given(two: list[Path], tmp_path: Path):
    merge(two[::-1], tmp_path / "merged", weights=[0.25, 0.75])

    assert open_checkpoint(tmp_path / "merged").load(["model.w"])["model.w"].tolist() == [1.25, 12.5]


def test_counts_and_extra_files_are_the_newest_ones(two: list[Path], tmp_path: Path):
    merge(two[::-1], tmp_path / "merged", weights=[0.5, 0.5])

    merged = open_checkpoint(tmp_path / "merged")
    assert merged.load("model.seen")["model.seen"].item() == 2
    assert (merged.step, merged.file("tokenizer.json")) == (2, b"new")


def test_a_merge_has_no_optimizer_state_and_says_where_it_comes_from(two: list[Path], tmp_path: Path):
    merge(two, tmp_path / "merged", weights=[0.5, 0.5])

    merged = open_checkpoint(tmp_path / "merged")
    assert not [name for name in merged.tensors if name.startswith("exp_avg")]
    assert merged.state["tokens"] == 20
    assert merged.state["merged_from"] == [
        {"path": str(two[0]), "step": 1, "weight": 0.5},
        {"path": str(two[1]), "step": 2, "weight": 0.5},
    ]


def test_sums_run_in_double_precision(tmp_path: Path):
    values = [1.0, 2.0**-24, 2.0**-24, 0.0]  # in fp32 each small one alone would vanish beside 1.0
    paths = [keep_one(tmp_path / "c", n, {"model.w": torch.tensor([v])}, files={}) for n, v in enumerate(values)]

    merge(paths, tmp_path / "merged", weights=[0.25] * 4)

    merged = open_checkpoint(tmp_path / "merged").load("model.")["model.w"].item()
    assert merged == 0.25 * (1 + 2**-23)


def test_weights_that_do_not_sum_to_one_are_refused(two: list[Path], tmp_path: Path):
    with pytest.raises(UsageError, match="must sum to 1"):
        merge(two, tmp_path / "merged", weights=[0.5, 0.6])


def test_checkpoints_of_different_shapes_are_refused_by_name(two: list[Path], tmp_path: Path):
    other = keep_one(tmp_path / "other", 3, {"model.w": torch.zeros(3)})

    with pytest.raises(UsageError, match=r"hold different models: .*model\.w"):
        merge([two[0], other], tmp_path / "merged", weights=[0.5, 0.5])


def test_checkpoints_of_different_model_files_are_refused(tmp_path: Path):
    tensors = {"model.w": torch.zeros(3)}
    one = keep_one(tmp_path, 1, tensors, files={"model.json": b'{"rope": 1}'})
    other = keep_one(tmp_path, 2, tensors, files={"model.json": b'{"rope": 2}'})

    with pytest.raises(UsageError, match=r"model\.json .*different models"):
        merge([one, other], tmp_path / "merged", weights=[0.5, 0.5])


def test_a_damaged_source_is_refused_and_nothing_is_written(two: list[Path], tmp_path: Path):
    (two[0] / "model.json").unlink()

    with pytest.raises(DamagedFile, match=r"model\.json is missing"):
        merge(two, tmp_path / "merged", weights=[0.5, 0.5])
    assert not (tmp_path / "merged").exists()


def test_an_existing_folder_is_never_overwritten(two: list[Path], tmp_path: Path):
    (tmp_path / "merged").mkdir()

    with pytest.raises(UsageError, match="exists already"):
        merge(two, tmp_path / "merged", weights=[0.5, 0.5])


def test_a_merge_never_stands_among_the_checkpoints_of_a_run(two: list[Path], tmp_path: Path):
    out = tmp_path / "checkpoints" / "step-00000003"

    with pytest.raises(UsageError, match="checkpoints is for the checkpoints that a run saves"):
        merge(two, out, weights=[0.5, 0.5])
    assert not out.exists()


def test_a_merge_shows_its_checks_each_tensor_of_each_source_and_the_writing(two: list[Path], tmp_path: Path, recorder):
    merge(two, tmp_path / "merged", weights=[0.5, 0.5], progress=recorder)

    assert [title for title, *_ in recorder.shown] == [
        "Checking step-00000001", "Checking step-00000002", "Merging", "Writing", "Computing checksums",
    ]  # fmt: skip
    assert recorder.shown[2:4] == [["Merging", 10, "tensors", 10], ["Writing", 5, "tensors", 5]]
