import hashlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.base.errors import DataError
from everyflop.data.tokenizer import END_OF_TEXT, load_tokenizer, train_tokenizer

TRAIN_ON_THE_STANDARD_LIBRARY = """
import hashlib, sysconfig
from pathlib import Path
from everyflop.data.tokenizer import train_tokenizer
files = sorted(Path(sysconfig.get_path("stdlib")).glob("a*.py"))
tokenizer = train_tokenizer((file.read_text() for file in files), vocab_size=1500)
print(tokenizer.sha256)
"""


def test_training_gives_the_same_bytes_in_any_process_with_any_number_of_threads():
    digests = set()
    for threads, hash_seed in (("1", "1"), ("2", "2"), ("4", "3")):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", TRAIN_ON_THE_STANDARD_LIBRARY]
        digests.add(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)

    assert len(digests) == 1


def test_end_of_text_is_id_0_and_the_vocabulary_has_the_size_asked_for(tokenizer):
    assert tokenizer.eot_id == 0
    assert tokenizer.vocab_size == 300
    assert tokenizer.core.id_to_token(0) == END_OF_TEXT


@given(text=st.text())
def test_any_text_survives_encoding_and_decoding(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode([text])) == [text]


def test_text_that_spells_end_of_text_is_text(tokenizer):
    text = f"before{END_OF_TEXT}after"
    (ids,) = tokenizer.encode([text])

    assert tokenizer.eot_id not in ids
    assert tokenizer.decode([ids]) == [text]


def test_digits_stay_single_and_words_take_their_space():
    tokenizer = train_tokenizer(["year 2024 year 2024 year 2024 "] * 50, vocab_size=400)
    tokens = tokenizer.core.encode("year 2024 year", add_special_tokens=False).tokens

    assert tokens == ["year", "Ġ", "2", "0", "2", "4", "Ġyear"]


def test_few_different_words_give_a_smaller_vocabulary():
    assert train_tokenizer(["ab ab ab"], vocab_size=1000).vocab_size < 300


def test_the_hash_is_that_of_the_file(tmp_path, tokenizer):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.content)

    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.sha256 == hashlib.sha256((tmp_path / "tokenizer.json").read_bytes()).hexdigest()


def test_a_folder_stands_for_the_tokenizer_in_it(tmp_path, tokenizer, stories):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.content)
    loaded = load_tokenizer(tmp_path)

    assert loaded.eot_id == tokenizer.eot_id
    assert [ids.tolist() for ids in loaded.encode(stories)] == [ids.tolist() for ids in tokenizer.encode(stories)]


@pytest.fixture
def foreign(tmp_path, tokenizer):
    """A tokenizer.json that calls its end of text </s>, does not mark it as special, and has a gap before its id."""
    fields = json.loads(tokenizer.content)
    vocab = fields["model"]["vocab"]
    del vocab[END_OF_TEXT]
    vocab["</s>"] = 400
    flags = dict.fromkeys(("special", "single_word", "lstrip", "rstrip", "normalized"), False)
    fields["added_tokens"] = [{"id": 400, "content": "</s>", **flags}]
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    return tmp_path


@pytest.mark.parametrize("eos_token", ["</s>", {"content": "</s>", "lstrip": False}])
def test_end_of_text_comes_from_the_config_beside_a_tokenizer_without_the_usual_one(foreign, eos_token):
    (foreign / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos_token}))
    loaded = load_tokenizer(foreign)

    assert loaded.eot_id == 400
    assert loaded.eot_id not in loaded.encode(["a</s>b"])[0]


def test_the_vocabulary_reaches_to_the_largest_id(foreign):
    assert load_tokenizer(foreign, eot_id=400).vocab_size == 401


def test_a_tokenizer_without_end_of_text_is_refused_with_what_to_add(foreign):
    with pytest.raises(DataError, match=r"no end-of-text token.*eos_token"):
        load_tokenizer(foreign)


@pytest.mark.parametrize("config", ['{"eos_token": "<nowhere>"}', '{"eos_token": null}', "{}", "not JSON", "[]"])
def test_a_config_that_names_no_token_is_refused(foreign, config):
    (foreign / "tokenizer_config.json").write_text(config)

    with pytest.raises(DataError, match="tokenizer_config"):
        load_tokenizer(foreign)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x00\xff"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content)

    with pytest.raises(DataError, match=r"cannot load the tokenizer .*tokenizer\.json"):
        load_tokenizer(tmp_path)
