"""`everyflop profile` of a model that a run left."""

import json


def test_a_hugging_face_folder_is_profiled_at_the_batch_that_is_asked(everyflop, plain, tmp_path):
    folder = tmp_path / "hf"
    assert everyflop("export", plain.dir, folder).code == 0
    ended = everyflop(
        *("profile", "--hf", folder, "--batch", "2", "--seq-len", "16", "--steps", "2", "--precision", "fp32"),
        *("train.compile=off", "--json", tmp_path / "p.json"),
    )

    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "p.json").read_text())["losses"][0] > 0
