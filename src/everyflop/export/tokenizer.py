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

    The tokenizer's own config names it where it is called otherwise.
    """
    named = json.loads(config).get("eos_token") or END_OF_TEXT
    end = named["content"] if isinstance(named, dict) else named
    table = json.loads(tokenizer)
    ids = {token["content"]: token["id"] for token in table.get("added_tokens", ())} | table["model"].get("vocab", {})
    return dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids[end]) if end in ids else {}
