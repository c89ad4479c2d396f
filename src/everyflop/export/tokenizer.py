"""What transformers needs beside our own tokenizer.json: the class that reads it, and its special token."""

import json
from typing import Any

from everyflop.data.tokenizer import END_OF_TEXT


def tokenizer_config(tokenizer: bytes, max_positions: int) -> bytes:
    """Return the tokenizer_config.json for a tokenizer.json; max_positions is the model's longest text in tokens."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_positions,
        "clean_up_tokenization_spaces": False,
    }
    if token_ids(tokenizer):
        config |= dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)
    return json.dumps(config, indent=2).encode()


def token_ids(tokenizer: bytes, config: bytes = b"{}") -> dict[str, int]:
    """Return config.json's special token ids: end-of-text ends a document and comes before the first.

    It is the one that training took: where there is none of that name, the one that the tokenizer's own config names.
    """
    named = json.loads(config).get("eos_token")
    table = json.loads(tokenizer)
    vocab = table["model"].get("vocab", {})
    if isinstance(vocab, list):  # of a Unigram model: pairs of a token and its score
        vocab = {token: number for number, (token, _) in enumerate(vocab)}
    ids = {token["content"]: token["id"] for token in table.get("added_tokens", ())} | vocab
    end = END_OF_TEXT if END_OF_TEXT in ids else named["content"] if isinstance(named, dict) else named
    return dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids[end]) if end in ids else {}
