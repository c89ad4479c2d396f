import json

import numpy as np
import pytest

from everyflop.base.errors import DamagedFile, DataError
from everyflop.data.prepare import prepare
from everyflop.data.prepared import open_prepared


@pytest.fixture
def run(make_run, tmp_path, stories):
    for name, texts in (("a", stories[:30]), ("b", stories[30:50]), ("val", stories[50:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    sources = [{"path": str(tmp_path / "a.jsonl"), "weight": 1}, {"path": str(tmp_path / "b.jsonl"), "weight": 3}]
    sets = [{"name": "v", "sources": str(tmp_path / "val.jsonl")}]
    return make_run(sources=sources, validation=sets, mixture_block=8)


@pytest.fixture
def prepared(run):
    return prepare(run)


def test_a_folder_is_opened_with_all_that_training_needs(run, prepared):
    opened = open_prepared(prepared.folder, run.data, verify=True)

    assert (opened.vocab_size, opened.eot_id, opened.fingerprint) == (300, 0, prepared.fingerprint)
    assert opened.tokenizer_path == prepared.folder / "tokenizer.json"
    assert list(opened.validation) == ["v"]
    assert (opened.train(0).batch(5, 9).inputs_BT == prepared.train(0).batch(5, 9).inputs_BT).all()


def test_the_stream_mixes_by_the_weights_of_the_run(prepared):
    stream = prepared.train(seed=3)
    sizes = {name: entry["windows"] for name, entry in prepared.manifest["train"].items()}

    assert stream.epochs_at(80) == {"a.jsonl": 20 / sizes["a.jsonl"], "b.jsonl": 60 / sizes["b.jsonl"]}


def test_seed_and_phase_decide_the_order(prepared):
    def order(*arguments):
        return prepared.train(*arguments).window_indices(np.arange(40)).tolist()

    assert order(1) == order(1, 0)
    assert len({tuple(order(1)), tuple(order(2)), tuple(order(1, 1))}) == 3


def test_consumed_text_is_the_text_of_the_samples_read(prepared, stories):
    # Ten samples of 16 tokens each, less padding: as many bytes as their targets decode to.
    stream = prepared.train(seed=0)
    batch = stream.batch(0, 10)
    targets = [ids[mask] for ids, mask in zip(batch.targets_BT, batch.loss_mask_BT, strict=True)]

    assert b"".join(stream.consumed_text(10)).decode() == "".join(prepared.tokenizer.decode(targets))


def test_other_sources_than_those_prepared_are_refused(run, prepared):
    data = run.data.model_copy(update={"sources": run.data.sources[:1]})

    with pytest.raises(DataError, match=r"holds the sources .* not \['a\.jsonl'\]"):
        open_prepared(prepared.folder, data).train(0)


def test_a_folder_that_is_not_there_is_named(run, tmp_path):
    with pytest.raises(DataError, match=r"no prepared data in .*none"):
        open_prepared(tmp_path / "none", run.data)


def test_a_folder_without_a_manifest_is_damaged(run, prepared):
    (prepared.folder / "manifest.json").unlink()

    with pytest.raises(
        DamagedFile, match=rf"manifest\.json cannot be read .* Remove the folder {prepared.folder}, and"
    ):
        open_prepared(prepared.folder, run.data)


def test_a_newer_version_is_refused(run, prepared):
    manifest = json.loads((prepared.folder / "manifest.json").read_text())
    (prepared.folder / "manifest.json").write_text(json.dumps({**manifest, "schema": 2}))

    with pytest.raises(DataError, match="has schema 2; this version reads up to 1"):
        open_prepared(prepared.folder, run.data)


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_manifest_that_is_none_is_refused(run, prepared, content):
    (prepared.folder / "manifest.json").write_text(content)

    with pytest.raises(DamagedFile, match=r"manifest\.json is no manifest"):
        open_prepared(prepared.folder, run.data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fingerprint", 5),
        ("seq_len", "16"),
        ("tokenizer", {"vocab_size": 300}),
        ("train", ["a.jsonl"]),
        ("validation", {"v": {"val.jsonl": {}}}),
        ("files", {"tokenizer.json": {"bytes": "1", "sha256": "x"}}),
        ("schema", "1"),
    ],
)
def test_a_key_of_the_manifest_that_is_missing_or_of_another_type_is_named(run, prepared, key, value):
    manifest = json.loads((prepared.folder / "manifest.json").read_text())
    without = {name: entry for name, entry in manifest.items() if name != key}
    for damaged in (without, {**manifest, key: value}):
        (prepared.folder / "manifest.json").write_text(json.dumps(damaged))
        with pytest.raises(DamagedFile, match=rf"manifest\.json is no manifest .*{key}"):
            open_prepared(prepared.folder, run.data)


def test_a_file_of_another_size_is_refused_always(run, prepared):
    with (prepared.folder / "train" / "a.jsonl.bin").open("ab") as file:
        file.write(b"\0")

    with pytest.raises(DamagedFile, match=r"train/a\.jsonl\.bin has \d+ bytes instead of \d+\. Remove the folder"):
        open_prepared(prepared.folder, run.data)


def test_a_missing_file_is_refused_always(run, prepared):
    (prepared.folder / "validation" / "v" / "val.jsonl.idx").unlink()

    with pytest.raises(DamagedFile, match=r"validation/v/val\.jsonl\.idx is missing"):
        open_prepared(prepared.folder, run.data)


def test_a_flipped_bit_is_found_when_asked_for(run, prepared):
    path = prepared.folder / "train" / "b.jsonl.bin"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)

    open_prepared(prepared.folder, run.data)
    with pytest.raises(DamagedFile, match=r"train/b\.jsonl\.bin has other content"):
        open_prepared(prepared.folder, run.data, verify=True)
