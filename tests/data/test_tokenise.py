import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.data import tokenise
from everyflop.data.shards import open_shard
from everyflop.data.tokenise import pieces, write_shard
from everyflop.data.tokenizer import train_tokenizer


def whole(tokenizer, texts) -> list[int]:
    """The token stream by the definition: each document in one call, end-of-text after it."""
    return [token for text in texts for token in [*tokenizer.encode([text])[0].tolist(), tokenizer.eot_id]]


def test_each_document_is_followed_by_end_of_text(tmp_path, tokenizer, stories):
    counts = write_shard(tmp_path / "a", stories, tokenizer, advance=lambda count: None)
    shard = open_shard(tmp_path / "a")

    assert shard.tokens_N.tolist() == whole(tokenizer, stories)
    assert counts.documents == len(shard.lengths_D) == len(stories)
    assert counts.tokens == len(shard.tokens_N)


def test_text_bytes_are_those_of_the_documents_in_utf_8(tmp_path, tokenizer):
    counts = write_shard(tmp_path / "a", ["ab", "语言", "é"], tokenizer, advance=lambda count: None)

    assert counts.text_bytes == 2 + 6 + 2


def test_a_document_in_pieces_has_the_tokens_of_the_whole(tmp_path, monkeypatch):
    text = "def f(x):\n    return x  # the fox\n\n\n  \nclass A:\n\n    y = 12345\n" * 30
    tokenizer = train_tokenizer([text], vocab_size=400)  # has a token for several line breaks, which a cut could split
    monkeypatch.setattr(tokenise, "PIECE_CHARS", 40)
    write_shard(tmp_path / "a", [text, text], tokenizer, advance=lambda count: None)

    assert len(list(pieces(text))) > 20
    assert open_shard(tmp_path / "a").tokens_N.tolist() == whole(tokenizer, [text, text])


@given(text=st.text(alphabet="a1 \n", max_size=400))
def test_pieces_join_to_the_text_and_the_last_is_marked(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenise, "PIECE_CHARS", 10)
        cut = list(pieces(text))

    assert "".join(piece for piece, _ in cut) == text
    assert [is_last for _, is_last in cut] == [False] * (len(cut) - 1) + [True]
    assert max(len(piece) for piece, _ in cut) <= 20


def test_progress_adds_up_to_the_documents(tmp_path, tokenizer, stories, monkeypatch):
    monkeypatch.setattr(tokenise, "PIECE_CHARS", 1000)
    steps: list[int] = []
    write_shard(tmp_path / "a", stories, tokenizer, advance=steps.append)

    assert len(steps) > 1
    assert np.sum(steps) == len(stories)
