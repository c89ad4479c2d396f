"""Independent pieces of work, each on a core of its own.

Two cores on one small matmul are hardly faster than one; each on a matmul of its own are twice as fast. What a piece
computes depends neither on how many lanes there are nor on which one it runs in.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def each(work: Callable[[T], None], pieces: Sequence[T]) -> None:
    """Do `work` on every piece, at most as many at once as torch has threads; without gradients."""
    threads = torch.get_num_threads()
    if min(threads, len(pieces)) == 1:
        for piece in pieces:
            work(piece)
        return
    # For this thread too: a library's number of threads is that of the whole process.
    torch.set_num_threads(1)
    try:
        list(_pool(threads).map(functools.partial(_quietly, work), pieces))
    finally:
        torch.set_num_threads(threads)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lane", initializer=lambda: torch.set_num_threads(1))


def _quietly(work: Callable[[T], None], piece: T) -> None:
    with torch.no_grad():  # whether gradients are wanted is a matter of each thread
        work(piece)
