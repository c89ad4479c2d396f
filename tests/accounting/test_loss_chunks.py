import pytest

from everyflop.accounting.loss_chunks import loss_chunk


@pytest.mark.parametrize(
    ("tokens", "vocab", "chunk"),
    [(4096, 8192, 512), (100, 8192, 100), (4096, 126_464, 128), (4096, 1024, 4096), (0, 8192, 0)],
)
def test_a_chunk_is_of_few_logits_but_not_of_few_tokens(tokens, vocab, chunk):
    assert loss_chunk(tokens, vocab) == chunk
