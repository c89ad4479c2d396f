import json

from everyflop.export.tokenizer import token_ids

TOKENIZER = json.dumps(
    {"added_tokens": [{"id": 3, "content": "<|end|>"}], "model": {"vocab": {"a": 0, "</s>": 2}}}
).encode()


def test_end_of_text_is_what_the_tokenizers_config_names():
    ids = token_ids(TOKENIZER, b'{"eos_token": "<|end|>"}')

    assert ids == {"bos_token_id": 3, "eos_token_id": 3, "pad_token_id": 3}


def test_the_config_may_describe_the_token_and_it_may_be_an_ordinary_one():
    assert token_ids(TOKENIZER, b'{"eos_token": {"content": "</s>"}}')["eos_token_id"] == 2


def test_without_a_known_end_of_text_there_are_no_ids():
    assert token_ids(TOKENIZER) == {}


def test_the_token_that_training_took_wins_over_what_the_config_names():
    both = {"added_tokens": [{"id": 3, "content": "<|im_end|>"}, {"id": 4, "content": "<|endoftext|>"}]}
    table = json.dumps(both | {"model": {"vocab": {"a": 0}}}).encode()

    assert token_ids(table, b'{"eos_token": "<|im_end|>"}')["eos_token_id"] == 4


def test_a_unigram_model_lists_its_tokens_with_scores():
    table = json.dumps({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["</s>", -1.5]]}}).encode()

    assert token_ids(table, b'{"eos_token": "</s>"}')["eos_token_id"] == 1
