import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from everyflop.base.errors import DamagedFile, UsageError
from everyflop.checkpoint import newest_good, open_checkpoint, save


def flip(path: Path, offset: int, *, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model-00002-of-00003.safetensors", "state.json", "model.json"])
def test_a_flipped_bit_is_found_and_its_file_is_named(saved: Path, name: str):
    flip(saved / name, -1)

    with pytest.raises(DamagedFile, match=f"{name} does not match its checksum"):
        open_checkpoint(saved)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bit_of_a_checkpoint_can_change_unnoticed(saved: Path, data: st.DataObject):
    path = data.draw(st.sampled_from(sorted(saved.iterdir())))
    offset = data.draw(st.integers(0, path.stat().st_size - 1))
    bit = data.draw(st.integers(0, 7))

    flip(path, offset, bit=bit)
    try:
        with pytest.raises((DamagedFile, UsageError)):
            open_checkpoint(saved)
    finally:
        flip(path, offset, bit=bit)


@pytest.mark.parametrize("name", ["model-00001-of-00003.safetensors", "state.json"])
def test_a_truncated_file_is_named_with_both_sizes(saved: Path, name: str):
    size = (saved / name).stat().st_size
    (saved / name).write_bytes((saved / name).read_bytes()[:-1])

    with pytest.raises(DamagedFile, match=f"{name} has {size - 1} bytes where {size} were written"):
        open_checkpoint(saved, verify=False)


def test_a_missing_file_is_named(saved: Path):
    (saved / "model-00003-of-00003.safetensors").unlink()

    with pytest.raises(DamagedFile, match=r"model-00003-of-00003\.safetensors is missing"):
        open_checkpoint(saved)


def test_a_tensor_file_that_does_not_belong_there_is_named(saved: Path):
    shutil.copy(saved / "model-00001-of-00003.safetensors", saved / "z.safetensors")

    with pytest.raises(DamagedFile, match=r"z\.safetensors does not belong"):
        open_checkpoint(saved)


def test_all_damage_is_reported_at_once(saved: Path):
    (saved / "model.json").unlink()
    flip(saved / "state.json", 0)

    with pytest.raises(DamagedFile, match=r"model\.json is missing; state\.json does not match"):
        open_checkpoint(saved)


def test_without_a_manifest_a_checkpoint_is_damaged(saved: Path):
    (saved / "manifest.json").unlink()

    with pytest.raises(DamagedFile, match=r"has no manifest\.json"):
        open_checkpoint(saved)


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "st', b"[]", b'{"schema": 1}', b"\xff\xfe"])
def test_a_torn_manifest_is_damage(saved: Path, content: bytes):
    (saved / "manifest.json").write_bytes(content)

    with pytest.raises(DamagedFile, match=r"manifest\.json"):
        open_checkpoint(saved)


def test_an_edited_manifest_is_damage(saved: Path):
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["step"] = 200
    (saved / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(DamagedFile, match="does not match its own checksum"):
        open_checkpoint(saved)


def test_a_newer_schema_is_refused_as_newer_and_not_as_damaged(saved: Path):
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "schema": 2}))

    with pytest.raises(UsageError, match="schema 2, and this everyflop reads schemas up to 1"):
        open_checkpoint(saved)


def test_unverified_opening_reads_no_tensor_and_still_checks_the_state(saved: Path):
    flip(saved / "model-00001-of-00003.safetensors", -1)
    open_checkpoint(saved, verify=False)
    flip(saved / "state.json", 0)

    with pytest.raises(DamagedFile, match=r"state\.json"):
        open_checkpoint(saved, verify=False)


def test_an_unreadable_tensor_header_is_damage_when_opened_unverified(saved: Path):
    flip(saved / "model-00001-of-00003.safetensors", 3)
    checkpoint = open_checkpoint(saved, verify=False)

    with pytest.raises(DamagedFile, match="cannot be read"):
        checkpoint.load("exp_avg.")


def test_the_newest_good_checkpoint_is_used_and_each_damaged_one_is_reported(tmp_path: Path):
    paths = [save(tmp_path, n, tensors={}, state={"n": n}, files={}, keep=9) for n in (1, 2, 3, 4)]
    (paths[3] / "manifest.json").unlink()
    flip(paths[2] / "state.json", 0)
    reported: list[tuple[str, str]] = []

    checkpoint = newest_good(tmp_path, lambda path, what: reported.append((path.name, what)))

    assert checkpoint is not None
    assert checkpoint.state == {"n": 2}
    assert [name for name, _ in reported] == ["step-00000004", "step-00000003"]
    assert "manifest.json" in reported[0][1]
    assert "state.json" in reported[1][1]


def test_where_no_checkpoint_is_good_there_is_none(saved: Path):
    (saved / "manifest.json").unlink()

    assert newest_good(saved.parent, lambda path, what: None) is None
    assert newest_good(saved.parent / "nowhere", lambda path, what: None) is None


def test_a_prefix_loads_what_starts_with_it_and_nothing_else(saved: Path):
    assert set(open_checkpoint(saved).load("router.")) == {"router.flag", "router.scale"}


def test_named_tensors_are_loaded_by_name(saved: Path, tensors: dict[str, Tensor]):
    loaded = open_checkpoint(saved).load(["model.count"])

    assert list(loaded) == ["model.count"]
    assert torch.equal(loaded["model.count"], tensors["model.count"])


def test_a_tensor_that_is_not_there_is_named(saved: Path):
    with pytest.raises(DamagedFile, match=r"lacks model\.nothing"):
        open_checkpoint(saved).load(["model.count", "model.nothing"])


def test_an_extra_file_that_was_never_there_is_a_wrong_request(saved: Path):
    with pytest.raises(UsageError, match=r"holds no tokenizer\.json"):
        open_checkpoint(saved).file("tokenizer.json")


def test_parameters_are_filled_in_place(saved: Path, tensors: dict[str, Tensor]):
    parameter = torch.nn.Parameter(torch.zeros(7, 5))

    open_checkpoint(saved).load_into({"exp_avg.embed.weight": parameter})

    assert torch.equal(parameter, tensors["exp_avg.embed.weight"])


def test_tensors_that_do_not_fit_are_all_named_and_none_is_filled(saved: Path, tensors: dict[str, Tensor]):
    wanted = {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if name.startswith("model.")}
    del wanted["model.count"]
    wanted["model.bf16"] = torch.zeros(3, 3)
    wanted["model.empty"] = torch.zeros(0, 5).float()
    wanted["model.new"] = torch.zeros(1)

    with pytest.raises(DamagedFile) as caught:
        open_checkpoint(saved).load_into(wanted)

    message = str(caught.value)
    assert "model.new is missing" in message
    assert "model.count is stored and has no place here" in message
    assert "model.bf16 is bfloat16 (3, 3)" in message
    assert "float32 (3, 3) is needed" in message
    assert "model.empty is float32 (0, 4)" in message
    assert "exp_avg" not in message
    assert wanted["model.embed.weight"].abs().sum() == 0


def test_opening_shows_the_check_and_loading_each_tensor(saved: Path, recorder):
    open_checkpoint(saved, progress=recorder).load(["model.count", "model.bf16", "router.scale"], progress=recorder)

    check, load = recorder.shown
    assert check[0] == "Checking step-00000100"
    assert load == ["Reading step-00000100", 3, "tensors", 3]


def test_a_glance_at_a_checkpoint_shows_nothing(saved: Path, recorder):
    open_checkpoint(saved, verify=False, progress=recorder)

    assert recorder.shown == []


def test_looking_for_the_newest_good_one_shows_every_check(saved: Path, tensors: dict[str, Tensor], recorder):
    newer = save(saved.parent, 200, tensors=tensors, state={}, files={"model.json": b"{}"}, keep=3)
    (newer / "model.json").write_bytes(b"[]")
    newest_good(saved.parent, lambda path, what: None, progress=recorder)

    assert [title for title, *_ in recorder.shown] == ["Checking step-00000200", "Checking step-00000100"]
