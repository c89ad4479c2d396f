"""`everyflop profile`: the training step, timed and taken apart."""

import json

import pytest


def test_a_run_is_profiled_on_the_screen_and_as_json(everyflop, write_run_file, tmp_path):
    outputs = ("--json", tmp_path / "p.json", "--picture", tmp_path / "p.png")
    ended = everyflop("profile", write_run_file(tmp_path), "--steps", "3", *outputs)
    found = json.loads((tmp_path / "p.json").read_text())

    assert ended.code == 0, ended.err
    for expected in ("attention", "experts", "of the peak", "tokens/s (median of 2 steps)", "not compiled"):
        assert expected in " ".join(ended.out.split())
    assert (len(found["step_s"]), len(found["losses"])) == (3, 3)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert found["tokens_per_s"] > 0
    assert found["params"] > 0


@pytest.mark.parametrize("arguments", [(), ("a.toml", "b.toml"), ("--hf", "somewhere", "a.toml")])
def test_what_to_profile_must_be_said_once(everyflop, arguments):
    ended = everyflop("profile", *arguments)

    assert ended.code == 2
    assert "either a run file, or --hf and a folder" in ended.err


def test_a_missing_run_file_is_named(everyflop, tmp_path):
    ended = everyflop("profile", tmp_path / "none.toml")

    assert ended.code == 2
    assert "none.toml" in ended.err
