"""How many rows the experts' matmuls have: each expert's rows fill up to whole blocks."""

LEAST_BLOCK, LARGEST_BLOCK, BLOCKS = 16, 128, 8
"""A block is a power of two between these sizes, so small that an expert has this many blocks on average. Matmul
libraries make a kernel for each number of rows, and 32 experts have 32 new numbers in every step: that takes time, and
memory which stays (bench/kernels.py). Accelerators' grouped kernels work in such blocks anyway."""


def block_rows(copies: int, n_experts: int) -> int:
    """Return what an expert's rows fill up to a multiple of; by shape alone. 1 where that would be mostly filling."""
    mean = copies // n_experts
    if mean < LEAST_BLOCK:
        return 1
    return min(LARGEST_BLOCK, max(LEAST_BLOCK, 2 ** (mean.bit_length() - BLOCKS.bit_length())))


def expert_rows(copies: int, n_experts: int) -> int:
    """Return the rows that are enough whatever the tokens choose: a whole number of blocks."""
    block = block_rows(copies, n_experts)
    return copies if block == 1 else -(-(copies + n_experts * (block - 1)) // block) * block
