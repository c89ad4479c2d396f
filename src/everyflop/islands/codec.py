"""What a flat update travels as: fp32, bf16, or int8 with one scale for each block.

numpy only, so that the coordinator needs no torch. fp64 passes through "fp32" unchanged: tests train in it.
Sizes for each number: 4 bytes, 2, and 1 + 4 / BLOCK.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024
"""Numbers that share a scale in int8."""

Flat = NDArray[np.floating]


def encode(flat: Flat, how: str, *more: Flat) -> bytes:
    """Return a flat array as the bytes that travel, and behind them `more` as it is.

    NaN and infinity stay what they are, in int8 as a scale of NaN.
    """
    parts: tuple[NDArray[Any], ...] = (flat,)
    if how == "bf16":
        parts = (_to_bf16(flat.astype(np.float32, copy=False)),)
    if how == "int8":
        parts = _to_int8(flat.astype(np.float32, copy=False))
    return b"".join(bytes_of(part) for part in (*parts, *more))


def bytes_of(array: NDArray[Any]) -> memoryview:
    """Return an array's bytes without copying them."""
    return np.ascontiguousarray(array).data.cast("B")


def decode(payload: bytes | memoryview, how: str, n: int, dtype: str = "float32") -> Flat:
    """Return the n numbers that `encode` wrote. Raises ValueError when the size does not fit."""
    if len(payload) != (size := encoded_bytes(n, how, dtype)):
        raise ValueError(f"{len(payload)} bytes where {n} numbers in {how} take {size}")
    if how == "bf16":
        halves = np.frombuffer(payload, dtype=np.uint16)
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if how == "int8":
        blocks = -(-n // BLOCK)
        scales = np.frombuffer(payload, dtype=np.float32, count=blocks)
        values = np.frombuffer(payload, dtype=np.int8, offset=4 * blocks).reshape(blocks, BLOCK)
        return (values * scales[:, None]).reshape(-1)[:n]
    return np.frombuffer(payload, dtype=dtype)


def behind(payload: bytes | memoryview, n: int, dtype: str) -> Flat:
    """Return the n numbers at the end of a payload, which `encode` wrote as they were."""
    return np.frombuffer(payload[len(payload) - encoded_bytes(n, "fp32", dtype) :], dtype=dtype)


def encoded_bytes(n: int, how: str, dtype: str = "float32") -> int:
    """Return how many bytes n numbers take."""
    if how == "int8":
        return -(-n // BLOCK) * (BLOCK + 4)
    return n * (2 if how == "bf16" else np.dtype(dtype).itemsize)


def _to_bf16(flat: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to nearest, ties to even; NaN keeps a set bit, which rounding up could carry away."""
    bits = flat.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(flat), np.uint32(0x7FC0), rounded).astype(np.uint16)


def _to_int8(flat: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    padded = np.zeros(-(-flat.size // BLOCK) * BLOCK, dtype=np.float32)
    padded[: flat.size] = flat
    blocks = padded.reshape(-1, BLOCK)
    with np.errstate(invalid="ignore", over="ignore"):
        scales = np.abs(blocks).max(axis=1) / np.float32(127)  # NaN or infinity in a block makes its scale one
        inverse = np.where(scales > 0, 1 / np.where(scales > 0, scales, 1), 0).astype(np.float32)
        values = np.nan_to_num(np.rint(blocks * inverse[:, None]), nan=0.0, posinf=127, neginf=-127).astype(np.int8)
    return scales.astype(np.float32), values
