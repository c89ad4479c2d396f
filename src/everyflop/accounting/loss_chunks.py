"""How many tokens the loss takes at once, so that all logits never exist together."""

CHUNK_LOGITS = 2**22
"""Of a chunk: 16 MiB in fp32."""
LEAST_TOKENS = 128
"""Of a chunk, however large the vocabulary: fewer leave the matmuls too narrow."""


def loss_chunk(tokens: int, vocab: int) -> int:
    """Return the tokens of a chunk; by shape alone."""
    return min(tokens, max(LEAST_TOKENS, CHUNK_LOGITS // vocab))
