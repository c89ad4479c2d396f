"""Train, load and use a tokenizer: text to token ids and back, and the id that ends a document."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everyflop.base.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core

END_OF_TEXT = "<|endoftext|>"
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"  # digits one by one: numbers then have one spelling
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""What merges never cross: GPT-4's pattern but for the digits."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer and what a model needs to know of it."""

    core: "Core"
    eot_id: int
    """Ends each document and comes before the first."""
    vocab_size: int
    """Largest id + 1: the rows that an embedding needs."""
    content: bytes
    """The tokenizer.json."""

    @property
    def sha256(self) -> str:
        """Hash of the tokenizer.json."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def names_end_of_text(self) -> bool:
        """Whether a token of its own says what ends a document."""
        return self.core.token_to_id(END_OF_TEXT) is not None

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return the ids of each text. What looks like a special token in a text is text like any other."""
        encodings = self.core.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, sequences: Sequence[Sequence[int] | NDArray[np.integer]]) -> list[str]:
        """Return the text of each sequence of ids, end-of-text left out."""
        return self.core.decode_batch([list(map(int, ids)) for ids in sequences], skip_special_tokens=True)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE in which any text has ids; id 0 is end-of-text. The same texts give the same bytes.

    A corpus with too few different words gives a smaller vocabulary.
    """
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Core

    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    core.train_from_iterator(texts, trainer)
    return _tokenizer(core, 0, core.to_str(pretty=True).encode())


def load_tokenizer(path: Path, *, eot_id: int | None = None) -> Tokenizer:
    """Load a tokenizer.json, or the one in a folder.

    The end-of-text token is `eot_id` where given, else "<|endoftext|>", else eos_token of the tokenizer_config.json
    beside it. Raises DataError when the file cannot be read or none of these is there.
    """
    from tokenizers import Tokenizer as Core

    path = path.expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        content = file.read_bytes()
        core = Core.from_buffer(content)
    except Exception as error:  # the library raises bare Exception for a file that it cannot parse
        raise DataError(
            f"cannot load the tokenizer {file}: {error}. Give data.tokenizer a tokenizer.json, a folder with one, "
            'or "train".'
        ) from None
    return _tokenizer(core, _find_end_of_text(core, file) if eot_id is None else eot_id, content)


def _tokenizer(core: "Core", eot_id: int, content: bytes) -> Tokenizer:
    core.add_special_tokens([core.id_to_token(eot_id)])  # marks it special where the file did not
    core.encode_special_tokens = True
    core.no_truncation()
    core.no_padding()
    return Tokenizer(core, eot_id, max(core.get_vocab().values()) + 1, content)


def _find_end_of_text(core: "Core", file: Path) -> int:
    config = file.with_name("tokenizer_config.json")
    token: Any = END_OF_TEXT
    if core.token_to_id(token) is None and config.is_file():
        try:
            token = json.loads(config.read_bytes()).get("eos_token")
        except (ValueError, AttributeError) as error:
            raise DataError(f"{config} is no JSON object ({error}). Correct it.") from None
        token = token.get("content") if isinstance(token, dict) else token  # older files hold the whole token
    found = core.token_to_id(token) if isinstance(token, str) else None
    if found is None:
        raise DataError(
            f"{file} has no end-of-text token: neither {END_OF_TEXT} nor an eos_token named in {config}. "
            f'Put {config.name} with {{"eos_token": "..."}} beside it.'
        )
    return found
