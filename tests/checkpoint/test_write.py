import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from everyflop.base.errors import UsageError
from everyflop.checkpoint import list_checkpoints, open_checkpoint, save, verify
from everyflop.checkpoint.write import write_checkpoint

SAVE_TOO_MUCH = """
import resource, sys
from pathlib import Path
import torch
from everyflop.base.errors import UsageError
from everyflop.checkpoint import save
folder, limit_bytes = Path(sys.argv[1]), int(sys.argv[2])
small, large = torch.ones(100), torch.ones(100_000)
save(folder, 1, tensors={"model.w": small}, state={}, files={}, keep=2)
if limit_bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
try:
    save(folder, 2, tensors={"model.w": large}, state={}, files={}, keep=2)
except UsageError as error:
    print(error)
    print([path.name for path in folder.iterdir()])
    from everyflop.checkpoint import newest_good
    print(newest_good(folder, print).load("model.")["model.w"].equal(small))
"""


def save_steps(folder: Path, *steps: int, keep: int) -> None:
    for step in steps:
        save(folder, step, tensors={"model.w": torch.full((3,), step)}, state={}, files={}, keep=keep)


def names(folder: Path) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def same_bits(one: Tensor, other: Tensor) -> bool:
    as_bytes = [tensor.reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*as_bytes)


def test_every_tensor_comes_back_with_its_dtype_its_shape_and_every_bit(saved: Path, tensors: dict[str, Tensor]):
    loaded = open_checkpoint(saved).load("")

    assert loaded.keys() == tensors.keys()
    assert all(same_bits(loaded[name], tensors[name]) for name in tensors)


def test_views_and_weights_that_share_memory_are_saved_as_separate_tensors(tmp_path: Path):
    whole = torch.arange(12.0).view(3, 4)
    views = {"model.a": whole, "model.tied": whole, "model.t": whole.t(), "model.row": whole[1]}
    path = save(tmp_path, 1, tensors=views, state={}, files={}, keep=1)

    loaded = open_checkpoint(path).load("model.")

    assert all(torch.equal(loaded[name], views[name]) for name in views)


def test_state_and_extra_files_come_back_exactly(saved: Path):
    checkpoint = open_checkpoint(saved)

    assert (checkpoint.step, saved.name) == (100, "step-00000100")
    assert checkpoint.state == {"tokens": 4096, "loss": 0.30000000000000004, "ledger": [3, 5]}
    assert checkpoint.file("model.json") == b"{}"


@pytest.mark.parametrize("value", [{1: "x"}, (1, 2), {"deep": [(1,)]}])
def test_a_state_that_json_would_change_is_refused_by_name(tmp_path: Path, value: object):
    with pytest.raises(ValueError, match="odd_one"):
        save(tmp_path, 1, tensors={}, state={"fine": 1, "odd_one": value}, files={}, keep=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "x.safetensors", "../x", "a/b"])
def test_an_extra_file_cannot_take_the_name_of_a_file_of_the_checkpoint(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="cannot be an extra file"):
        save(tmp_path, 1, tensors={}, state={}, files={name: b""}, keep=1)


def test_weights_and_optimizer_state_lie_in_different_files(saved: Path):
    infos = open_checkpoint(saved).tensors

    assert infos["model.odd"].file == infos["model.bf16"].file
    assert infos["model.embed.weight"].file != infos["exp_avg.embed.weight"].file


def test_large_models_are_split_over_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("everyflop.checkpoint.tensors.MAX_FILE_BYTES", 100)
    tensors = {f"model.{i}": torch.full((20,), float(i)) for i in range(3)}  # 80 bytes each
    checkpoint = open_checkpoint(save(tmp_path, 1, tensors=tensors, state={}, files={}, keep=1))

    assert len({info.file for info in checkpoint.tensors.values()}) == 3
    assert checkpoint.load("model.")["model.2"].tolist() == [2.0] * 20


def test_the_manifest_tells_every_files_size_and_every_tensors_dtype_and_shape(saved: Path):
    manifest = json.loads((saved / "manifest.json").read_text())

    assert manifest["schema"] == 1
    assert {n: f["size_bytes"] for n, f in manifest["files"].items()} == {
        path.name: path.stat().st_size for path in saved.iterdir() if path.name != "manifest.json"
    }
    assert manifest["tensors"]["model.bf16"]["dtype"] == "bfloat16"
    assert manifest["tensors"]["model.embed.weight"]["shape"] == [7, 5]


def test_only_the_newest_are_kept(tmp_path: Path):
    save_steps(tmp_path, 8, 9, 10, 11, keep=2)

    assert names(tmp_path) == ["step-00000010", "step-00000011"]


def test_the_checkpoint_just_written_stays_even_if_others_have_higher_steps(tmp_path: Path):
    save_steps(tmp_path, 10, 20, keep=2)
    save_steps(tmp_path, 5, keep=1)

    assert names(tmp_path) == ["step-00000005", "step-00000020"]


def test_a_damaged_checkpoint_does_not_count_among_those_kept(tmp_path: Path):
    save_steps(tmp_path, 1, 2, 3, keep=3)
    (tmp_path / "step-00000003" / "manifest.json").unlink()
    save_steps(tmp_path, 4, keep=2)

    assert names(tmp_path) == ["step-00000002", "step-00000003", "step-00000004"]


def test_a_damaged_checkpoint_goes_once_it_is_older_than_all_that_are_kept(tmp_path: Path):
    save_steps(tmp_path, 1, 2, keep=3)
    (tmp_path / "step-00000001" / "state.json").unlink()
    save_steps(tmp_path, 3, keep=2)

    assert names(tmp_path) == ["step-00000002", "step-00000003"]


def test_a_good_checkpoint_of_the_same_step_is_left_as_it_is(tmp_path: Path):
    save_steps(tmp_path, 7, keep=1)
    before = {path: path.stat() for path in (tmp_path / "step-00000007").iterdir()}

    save_steps(tmp_path, 7, keep=1)

    assert {path: path.stat().st_ino for path in before} == {path: stat.st_ino for path, stat in before.items()}


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path):
    save_steps(tmp_path, 7, keep=1)
    (tmp_path / "step-00000007" / "state.json").write_text("torn")

    save_steps(tmp_path, 7, keep=1)

    assert verify(tmp_path / "step-00000007") == []


def test_a_checkpoint_of_a_newer_everyflop_is_never_replaced(tmp_path: Path):
    save_steps(tmp_path, 7, keep=1)
    manifest = tmp_path / "step-00000007" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 2'))

    with pytest.raises(UsageError, match="schema 2"):
        save_steps(tmp_path, 7, keep=1)
    assert '"schema": 2' in manifest.read_text()


def test_what_killed_processes_left_is_cleared_away(tmp_path: Path):
    for name in (".tmp-step-00000003", ".tmp-removed-step-00000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model-00001-of-00001.safetensors").write_bytes(b"half")

    save_steps(tmp_path, 4, keep=1)

    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_a_file_size_limit_is_said_plainly_and_leaves_the_previous_checkpoint(tmp_path: Path):
    command = [sys.executable, "-c", SAVE_TOO_MUCH, str(tmp_path), "20000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "no room for checkpoint" in done.stdout
    assert "['step-00000001']\nTrue\n" in done.stdout


def test_a_full_disk_is_said_plainly_and_leaves_the_previous_checkpoint(tmp_path: Path):
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs a private mount namespace")
    mount_and_run = 'mount -t tmpfs -o size=200k tmpfs "$1" && "$2" -c "$3" "$1" 0'
    command = ["unshare", "-rm", "sh", "-c", mount_and_run, "sh", str(tmp_path), sys.executable, SAVE_TOO_MUCH]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "No space left on device" in done.stdout
    assert "['step-00000001']\nTrue\n" in done.stdout


def test_writing_shows_each_tensor_and_each_byte_that_is_checksummed(
    tmp_path: Path, tensors: dict[str, Tensor], recorder
):
    path = tmp_path / "once"
    write_checkpoint(path, 1, tensors=tensors, state={}, files={"model.json": b"{}"}, progress=recorder)

    held = sum(file.stat().st_size for file in path.iterdir() if file.name != "manifest.json")
    assert recorder.shown == [["Writing", 8, "tensors", 8], ["Computing checksums", held, "bytes", held]]
