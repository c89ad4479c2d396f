"""What flat gradients and updates travel as: fp32, bf16, or int8 or int4 with one scale for each block.

numpy only, so that the coordinator needs no torch. fp64 passes through "fp32" unchanged: tests train in it.
Sizes for each number: 4 bytes, 2, 1 + 4 / BLOCK and 1 / 2 + 4 / BLOCK.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024
"""Numbers that share a scale."""

LARGEST = {"int8": 127, "int4": 7}
"""The largest whole number that each kind of integer stands for, which is what the largest of a block becomes."""

AT_ONCE = 1 << 16
"""Numbers that are worked on at once: what is in between stays in the processor's cache."""

Flat = NDArray[np.floating]
Bytes = NDArray[np.uint8]
Integers = NDArray[np.int8]
Payload = bytes | memoryview


def encode(flat: Flat, how: str, *more: Flat) -> memoryview:
    """Return a flat array as the bytes that travel, and behind them `more` as it is.

    NaN and infinity stay what they are, in integers as a scale of NaN.
    """
    size = encoded_bytes(flat.size, how, flat.dtype.name)
    payload = _room_for(size, more)
    if how in LARGEST:
        _to_integers(flat, payload[:size], how)
    else:
        (_to_bf16 if how == "bf16" else _copy)(flat, payload[:size])
    return payload.data


def encode_keeping(flat: Flat, how: str, *more: Flat, residual: Flat | None) -> tuple[memoryview, Flat | None]:
    """Return what `encode` does of a flat array and of what rounding left of the ones before, and what it leaves now.

    Nothing is left but of integers.
    """
    if how not in LARGEST:
        return encode(flat, how, *more), None
    size, left = encoded_bytes(flat.size, how), np.empty_like(flat)
    payload = _room_for(size, more)
    _to_integers(flat, payload[:size], how, residual=residual, left=left)
    return payload.data, left


def bytes_of(array: NDArray[Any]) -> memoryview:
    """Return an array's bytes without copying them."""
    return np.ascontiguousarray(array).data.cast("B")


def decode(payload: Payload, how: str, n: int, dtype: str = "float32") -> Flat:
    """Return the n numbers that `encode` wrote. Raises ValueError when the size does not fit."""
    if len(payload) != (size := encoded_bytes(n, how, dtype)):
        raise ValueError(f"{len(payload)} bytes where {n} numbers in {how} take {size}")
    if how == "bf16":
        halves = np.frombuffer(payload, dtype=np.uint16)
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if how in LARGEST:
        blocks = -(-n // BLOCK)
        scales = np.frombuffer(payload, dtype=np.float32, count=blocks)
        values = np.frombuffer(payload, dtype=np.int8, offset=4 * blocks).reshape(blocks, -1)
        return _unscaled(_halves_apart(values) if how == "int4" else values, scales)[:n]
    return np.frombuffer(payload, dtype=dtype)


def behind(payload: Payload, n: int, dtype: str) -> Flat:
    """Return the n numbers at the end of a payload, which `encode` wrote as they were."""
    return np.frombuffer(payload[len(payload) - encoded_bytes(n, "fp32", dtype) :], dtype=dtype)


def encoded_bytes(n: int, how: str, dtype: str = "float32") -> int:
    """Return how many bytes n numbers take."""
    if how in LARGEST:
        return -(-n // BLOCK) * (4 + (BLOCK if how == "int8" else BLOCK // 2))
    return n * (2 if how == "bf16" else np.dtype(dtype).itemsize)


def _room_for(size: int, more: Sequence[Flat]) -> Bytes:
    """Return so many bytes, not yet written, and behind them `more` as it is."""
    payload = np.empty(size + sum(part.nbytes for part in more), dtype=np.uint8)
    for part in more:
        _copy(part, payload[size : size + part.nbytes])
        size += part.nbytes
    return payload


def _copy(flat: Flat, out: Bytes) -> None:
    out.view(flat.dtype)[:] = flat


def _to_bf16(flat: Flat, out: Bytes) -> None:
    """Round to nearest, ties to even; NaN keeps a set bit, which rounding up could carry away."""
    halves = out.view(np.uint16)
    for first in range(0, flat.size, AT_ONCE):
        part = flat[first : first + AT_ONCE].astype(np.float32, copy=False)
        bits = part.view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        halves[first : first + AT_ONCE] = np.where(np.isnan(part), np.uint32(0x7FC0), rounded)


def _to_integers(flat: Flat, out: Bytes, how: str, *, residual: Flat | None = None, left: Flat | None = None) -> None:
    """Write scales and integers of flat plus `residual`; put what they leave of it into `left`."""
    blocks = -(-flat.size // BLOCK)
    scales, values = out[: 4 * blocks].view(np.float32), out[4 * blocks :].view(np.int8).reshape(blocks, -1)
    for first in range(0, blocks, AT_ONCE // BLOCK):
        some, these = slice(first, first + AT_ONCE // BLOCK), slice(first * BLOCK, first * BLOCK + AT_ONCE)
        wanted = flat[these] if residual is None else flat[these] + residual[these]
        scales[some], whole = _scaled(_blocks(wanted), LARGEST[how])
        values[some] = _halves_together(whole) if how == "int4" else whole
        if left is not None:
            np.subtract(wanted, _unscaled(whole, scales[some])[: wanted.size], out=left[these])


def _unscaled(values: Integers, scales: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):  # 0 times infinity
        return (values * scales[:, None]).reshape(-1)


def _halves_together(values: Integers) -> Integers:
    """Return pairs of numbers from -8 to 7 as one byte each, the first of a pair in its lower half."""
    pairs = values.view("<u2")
    return ((pairs & 0x0F) | (pairs >> 4 & 0xF0)).astype(np.uint8).view(np.int8)


def _halves_apart(pairs: Integers) -> Integers:
    """Undo `_halves_together`."""
    wide = pairs.view(np.uint8).astype("<u2")
    values = ((wide & 0x0F) | ((wide & 0xF0) << 4)).view(np.int8)
    return (values ^ 8) - np.int8(8)  # the sign of four bits


def _blocks(flat: Flat) -> NDArray[np.float32]:
    """Return blocks of numbers, the last one filled up with zeros."""
    flat = flat.astype(np.float32, copy=False)
    short = -flat.size % BLOCK
    return (np.pad(flat, (0, short)) if short else flat).reshape(-1, BLOCK)


def _scaled(blocks: NDArray[np.float32], largest: int) -> tuple[NDArray[np.float32], Integers]:
    with np.errstate(invalid="ignore", over="ignore"):
        # NaN or infinity in a block makes its scale one
        scales = np.maximum(np.abs(blocks.max(axis=1)), np.abs(blocks.min(axis=1))) / np.float32(largest)
        inverse = np.where(scales > 0, 1 / np.where(scales > 0, scales, 1), 0).astype(np.float32)
        rounded = blocks * inverse[:, None]
        np.rint(rounded, out=rounded)
        if not (np.isfinite(scales) & np.isfinite(inverse)).all():
            rounded = np.nan_to_num(rounded, nan=0.0, posinf=largest, neginf=-largest)
        return scales, rounded.astype(np.int8)
