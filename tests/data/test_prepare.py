import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from everyflop.base.errors import DamagedFile, DataError
from everyflop.base.files import in_turn
from everyflop.data.prepare import prepare
from everyflop.data.split import is_held_out
from everyflop.data.tokenizer import train_tokenizer
from everyflop.spec.model import ModelSpec
from everyflop.spec.presets import preset_fields

PREPARE = """
import sys
from everyflop.data.prepare import prepare
from everyflop.spec.run import RunSpec
print("ready", flush=True)
print(prepare(RunSpec.model_validate_json(sys.argv[1])).folder)
"""


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(run) -> subprocess.Popen:
    command = [sys.executable, "-c", PREPARE, run.model_dump_json()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_training_and_held_out_text_together_are_the_source(make_run, folder_of_stories, stories):
    prepared = prepare(make_run(sources=str(folder_of_stories), held_out_share=0.2))
    held_out = list(prepared.validation["held_out"].texts(prepared.tokenizer))
    training = list(prepared.windows.texts(prepared.tokenizer))

    expected = [text for number, text in enumerate(stories) if is_held_out(f"{number:02d}.txt", 0.2)]
    assert held_out == expected
    assert sorted(training + held_out) == sorted(stories)
    assert prepared.validation["held_out"].text_bytes == sum(len(text.encode()) for text in expected)


def test_the_tokenizer_never_sees_held_out_text(make_run, tmp_path):
    for name in ("a", "b", "c", "d", "e", "f"):
        word = "validation" if is_held_out(f"{name}.txt", 0.4) else "training"
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.txt").write_text(f"{word} {name} " * 50)
    prepared = prepare(make_run(sources=str(tmp_path / "in"), held_out_share=0.4))
    vocabulary = prepared.tokenizer.core.get_vocab()

    assert prepared.manifest["held_out_groups"]["in"]
    assert "Ġtraining" in vocabulary
    assert "Ġvalidation" not in vocabulary


def test_a_tokenizer_is_trained_on_a_sample_of_a_corpus_that_is_one_huge_file(make_run, tmp_path, stories, monkeypatch):
    monkeypatch.setattr("everyflop.data.prepare.TOKENIZER_CHARS", 4000)
    monkeypatch.setattr("everyflop.data.tokenise.PIECE_CHARS", 200)
    seen: list[str] = []

    def train(texts, *, vocab_size):
        seen.extend(texts)
        return train_tokenizer(seen, vocab_size=vocab_size)

    monkeypatch.setattr("everyflop.data.prepare.train_tokenizer", train)
    (tmp_path / "huge.txt").write_text("".join(f"{n} {text}" for n, text in enumerate(stories * 4)))
    (tmp_path / "val.txt").write_text("validation")
    sets = [{"name": "v", "sources": str(tmp_path / "val.txt")}]
    prepared = prepare(make_run(sources=str(tmp_path / "huge.txt"), validation=sets))

    assert 2000 < sum(map(len, seen)) < 8000  # of 75,000
    assert prepared.vocab_size == 300


def test_named_validation_sets_are_separate_and_nothing_else_is_held_out(make_run, tmp_path, stories):
    for name, texts in (("train", stories[:40]), ("easy", stories[40:45]), ("hard", stories[45:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    sets = [{"name": name, "sources": str(tmp_path / f"{name}.jsonl")} for name in ("easy", "hard")]
    prepared = prepare(make_run(sources=str(tmp_path / "train.jsonl"), validation=sets))

    assert list(prepared.windows.texts(prepared.tokenizer)) == stories[:40]
    assert list(prepared.validation["easy"].texts(prepared.tokenizer)) == stories[40:45]
    assert list(prepared.validation["hard"].texts(prepared.tokenizer)) == stories[45:]


def test_text_that_is_validated_on_is_taken_out_of_training_with_a_count(make_run, tmp_path, stories):
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in stories))
    (tmp_path / "val.txt").write_text(stories[3])
    sets = [{"name": "v", "sources": str(tmp_path / "val.txt")}]
    prepared = prepare(make_run(sources=str(tmp_path / "train.jsonl"), validation=sets))

    assert list(prepared.windows.texts(prepared.tokenizer)) == stories[:3] + stories[4:]
    assert prepared.manifest["train"]["train.jsonl"]["skipped"] == {"also in validation": 1}


def test_a_copy_of_a_held_out_document_is_taken_out_of_training(make_run, folder_of_stories, stories):
    held_out = next(n for n in range(60) if is_held_out(f"{n:02d}.txt", 0.2))
    copy = next(f"copy{n}.txt" for n in range(99) if not is_held_out(f"copy{n}.txt", 0.2))
    (folder_of_stories / copy).write_text(stories[held_out])
    prepared = prepare(make_run(sources=str(folder_of_stories), held_out_share=0.2))

    assert stories[held_out] not in list(prepared.windows.texts(prepared.tokenizer))
    assert prepared.manifest["train"]["stories"]["skipped"] == {"also in validation": 1}


def test_the_manifest_counts_what_was_read_and_what_was_skipped(make_run, folder_of_stories):
    (folder_of_stories / "bad.txt").write_bytes(b"caf\xe9")
    (folder_of_stories / "empty.txt").touch()
    prepared = prepare(make_run(sources={"path": str(folder_of_stories), "licence": "CC0-1.0"}, held_out_share=0.2))
    entry = prepared.manifest["train"]["stories"]
    held_out = prepared.manifest["validation"]["held_out"]["stories"]

    assert entry["licence"] == "CC0-1.0"
    assert len(entry["files"]) == 62
    assert entry["skipped"] == {"empty": 1, "not UTF-8": 1}
    assert held_out["skipped"] == {}
    assert entry["documents"] + held_out["documents"] == 60
    assert entry["tokens"] == prepared.windows.n_tokens
    assert entry["windows"] == len(prepared.windows) == -(-entry["tokens"] // 16)


def test_prepared_data_is_found_again_without_work(make_run, folder_of_stories):
    first = prepare(make_run(sources=str(folder_of_stories), held_out_share=0.2))
    written_ns = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    second = prepare(make_run(sources=str(folder_of_stories), held_out_share=0.2))

    assert second.folder == first.folder == first.folder.parent / first.fingerprint[:16]
    assert {path: path.stat().st_mtime_ns for path in second.folder.rglob("*")} == written_ns


@pytest.mark.parametrize("name", ["train/stories.bin", "tokenizer.json"])
def test_prepared_data_that_was_changed_is_never_used_again(make_run, folder_of_stories, name):
    run = make_run(sources=str(folder_of_stories), held_out_share=0.2)
    folder = prepare(run).folder
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)

    with pytest.raises(DamagedFile, match=f"{name} has other content than was written. Remove the folder {folder}, "):
        prepare(run)


def test_weights_and_blocks_change_no_shard(make_run, folder_of_stories):
    first = prepare(make_run(sources={"path": str(folder_of_stories)}, held_out_share=0.2))
    source = {"path": str(folder_of_stories), "weight": 3.0}
    second = prepare(make_run(sources=source, held_out_share=0.2, mixture_block=7))

    assert second.folder == first.folder


@pytest.mark.parametrize(
    "change",
    [
        {"held_out_share": 0.3},
        {"seq_len": 32},
        {"vocab_size": 290},
        {"attend_within_document": False},
        {"sources": {"text_key": "body"}},
        {"sources": {"licence": "MIT"}},
        {"sources": {"name": "other"}},
    ],
    ids=lambda change: json.dumps(change),
)
def test_what_decides_the_content_gives_another_folder(make_run, folder_of_stories, change):
    fields = {"held_out_share": 0.2, "sources": {"path": str(folder_of_stories)}}
    first = prepare(make_run(**fields))
    changed = {**fields, **change, "sources": {**fields["sources"], **change.get("sources", {})}}

    assert prepare(make_run(**changed)).folder != first.folder


def test_a_changed_file_gives_another_folder(make_run, folder_of_stories):
    run = make_run(sources=str(folder_of_stories), held_out_share=0.2)
    first = prepare(run)
    (folder_of_stories / "00.txt").write_text("another text of the same place")

    assert prepare(run).folder != first.folder


def test_a_given_tokenizer_is_used_and_copied(make_run, tmp_path, folder_of_stories, tokenizer):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.content)
    run = make_run(sources=str(folder_of_stories), held_out_share=0.2, tokenizer=str(tmp_path))
    prepared = prepare(run)

    assert prepared.tokenizer_path.read_bytes() == tokenizer.content
    assert prepared.manifest["tokenizer"] == {
        "sha256": tokenizer.sha256, "vocab_size": 300, "eot_id": 0, "trained": False
    }  # fmt: skip


def test_what_ends_a_document_is_part_of_the_fingerprint_where_a_file_beside_says_it(
    make_run, tmp_path, folder_of_stories, tokenizer
):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.content.replace(b"<|endoftext|>", b"<|end|>"))
    run, folders = make_run(sources=str(folder_of_stories), held_out_share=0.2, tokenizer=str(tmp_path)), set()
    for token in ("<|end|>", "a"):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
        folders.add(prepare(run).folder)

    assert len(folders) == 2


def test_a_tokenizer_larger_than_the_models_vocabulary_is_refused_before_any_work(make_run, tmp_path):
    run = make_run(sources=str(tmp_path / "missing"), vocab_size=500)
    model = ModelSpec.model_validate({**preset_fields("olmoe-1b-7b"), "vocab_size": 400})

    with pytest.raises(DataError, match=r"500 tokens and model\.vocab_size is 400"):
        prepare(run.model_copy(update={"model": model}))


def test_all_sources_that_cannot_be_used_are_named_at_once(make_run, tmp_path, folder_of_stories):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "bad.jsonl").write_text('{"body": "x"}\n')
    (tmp_path / "val.txt").write_bytes(b"\xff")
    sources = [str(folder_of_stories), str(tmp_path / "empty.txt"), str(tmp_path / "bad.jsonl")]
    sets = [{"name": "v", "sources": str(tmp_path / "val.txt")}]
    with pytest.raises(DataError) as raised:
        prepare(make_run(sources=sources, validation=sets))

    message = str(raised.value)
    assert "source 'empty.txt' has no document to use (1 empty)" in message
    assert "no key 'text', only 'body'" in message
    assert "validation set 'v': source 'val.txt' has no document to use (1 not UTF-8)" in message
    assert not [path for path in (tmp_path / "prepared").iterdir() if path.is_dir()]


def test_missing_files_of_training_and_validation_are_named_at_once(make_run, tmp_path):
    sets = [{"name": "v", "sources": str(tmp_path / "b.txt")}]
    with pytest.raises(DataError, match=r"(?s)a\.txt.*validation set 'v'.*b\.txt"):
        prepare(make_run(sources=str(tmp_path / "a.txt"), validation=sets))


def test_a_share_that_holds_out_nothing_is_refused_with_the_share_that_would(make_run, tmp_path, stories):
    (tmp_path / "in").mkdir()
    for name in ("a.txt", "b.txt", "json"):  # their hashes fall at 0.097, 0.999 and 0.011
        (tmp_path / "in" / name).write_text(f"{name} {stories[0]}")
    run = make_run(sources=str(tmp_path / "in"), held_out_share=0.01)
    with pytest.raises(DataError) as raised:
        prepare(run)

    share = float(str(raised.value).split("Set it to ")[1].split(",")[0])
    enough = prepare(make_run(sources=str(tmp_path / "in"), held_out_share=share))
    assert enough.manifest["validation"]["held_out"]["in"]["documents"] == 1


def test_a_single_document_needs_a_validation_set_of_its_own(make_run, tmp_path):
    name = next(f"{n}.txt" for n in range(99) if not is_held_out(f"{n}.txt", 0.05))
    (tmp_path / name).write_text("alone")

    with pytest.raises(DataError, match=r"nothing of 1 document: .*\. Name text to validate on in \[\[data.validation"):
        prepare(make_run(sources=str(tmp_path / name)))


def test_training_text_that_is_all_validated_on_is_refused(make_run, tmp_path):
    (tmp_path / "a.txt").write_text("the same")
    (tmp_path / "b.txt").write_text("the same")
    sets = [{"name": "v", "sources": str(tmp_path / "b.txt")}]

    with pytest.raises(DataError, match=r"source 'a\.txt' has nothing left to train on"):
        prepare(make_run(sources=str(tmp_path / "a.txt"), validation=sets))


def test_a_mixture_that_cannot_be_met_is_refused_before_any_work(make_run, tmp_path):
    sources = [{"path": str(tmp_path / "a"), "weight": 1}, {"path": str(tmp_path / "b"), "weight": 9999}]

    with pytest.raises(DataError, match="weight of 'a'"):
        prepare(make_run(sources=sources))


def test_data_prepared_again_after_kills_at_any_instant_is_the_same(make_run, tmp_path, folder_of_stories):
    started_s = time.monotonic()
    whole = prepare(make_run(sources=str(folder_of_stories), held_out_share=0.2))
    about_s = time.monotonic() - started_s
    expected = content_of(whole.folder)
    run = make_run(sources=str(folder_of_stories), held_out_share=0.2, prepared_dir=str(tmp_path / "killed"))
    pick = random.Random(0)
    for _ in range(5):
        process = start(run)
        assert process.stdout.readline() == "ready\n"
        time.sleep(pick.uniform(0, 2 * about_s))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for folder in (tmp_path / "killed").glob("[!.]*"):
            assert content_of(folder) == expected

    assert content_of(prepare(run).folder) == expected
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {whole.folder.name, f".{whole.folder.name}.lock"}


def test_two_preparers_take_turns_and_the_second_uses_what_the_first_made(make_run, tmp_path, folder_of_stories):
    run = make_run(sources=str(folder_of_stories), held_out_share=0.2)
    prepared = prepare(run)
    parked = prepared.folder.rename(tmp_path / "parked")
    with in_turn(prepared.folder.with_name(f".{prepared.folder.name}.lock"), busy=""):
        second = start(run)
        assert "Waiting for it" in second.stderr.readline()
        parked.rename(prepared.folder)
        before_ns = {path: path.stat().st_mtime_ns for path in prepared.folder.rglob("*")}
    out, _ = second.communicate(timeout=60)

    assert out.splitlines()[-1] == os.fspath(prepared.folder)
    assert {path: path.stat().st_mtime_ns for path in prepared.folder.rglob("*")} == before_ns


def test_a_huge_vocabulary_is_stored_in_four_bytes(make_run, tmp_path, folder_of_stories, tokenizer):
    fields = json.loads(tokenizer.content)
    fields["model"]["vocab"]["far away"] = 126_463
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    run = make_run(sources=str(folder_of_stories), held_out_share=0.2, tokenizer=str(tmp_path))
    prepared = prepare(run)

    assert prepared.vocab_size == 126_464
    assert prepared.windows.shards[0].tokens_N.dtype == np.int32


@pytest.mark.full
def test_the_standard_library_is_prepared_by_module(make_run):
    prepared = prepare(make_run(vocab_size=1000))
    held_out = prepared.manifest["held_out_groups"]["python-stdlib"]

    assert len(held_out) > 3
    assert "json" in held_out
    assert not any("." in name or "/" in name for name in held_out)
    assert prepared.validation["held_out"].text_bytes > 100_000
