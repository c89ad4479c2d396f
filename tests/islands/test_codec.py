import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everyflop.islands.codec import AT_ONCE, BLOCK, LARGEST, behind, decode, encode, encode_keeping, encoded_bytes

ANY_BITS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50)


def returned(flat: np.ndarray, how: str) -> np.ndarray:
    return decode(encode(flat, how), how, flat.size, flat.dtype.name)


@given(ANY_BITS)
def test_fp32_travels_bit_for_bit(bits: list[int]):
    flat = np.array(bits, dtype=np.uint32).view(np.float32)

    assert returned(flat, "fp32").tobytes() == flat.tobytes()


def test_fp64_passes_through_fp32_unchanged():
    flat = np.array([np.pi, 1e300, -5e-324])

    assert returned(flat, "fp32").dtype == np.float64
    assert returned(flat, "fp32").tobytes() == flat.tobytes()


@given(ANY_BITS)
def test_bf16_rounds_as_torch_does(bits: list[int]):
    flat = np.array(bits, dtype=np.uint32).view(np.float32)
    expected = torch.from_numpy(flat).bfloat16().float().numpy()
    finite = ~np.isnan(flat)

    assert returned(flat, "bf16")[finite].tobytes() == expected[finite].tobytes()
    assert np.isnan(returned(flat, "bf16")[~finite]).all()


def test_bf16_rounds_halves_to_even():
    # bf16 keeps 7 bits after the point: 1 + 2**-8 lies between 1 and 1 + 2**-7, 1 + 3 * 2**-8 above it
    flat = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], dtype=np.float32)

    assert returned(flat, "bf16").tolist() == [1, 1 + 2**-6, 1 + 2**-7]


def test_bf16_keeps_what_is_not_finite():
    largest = np.finfo(np.float32).max
    flat = np.array([np.nan, np.inf, -np.inf, largest], dtype=np.float32)

    assert np.isnan(returned(flat, "bf16")[0])
    assert returned(flat, "bf16")[1:].tolist() == [np.inf, -np.inf, np.inf]  # the largest fp32 is above bf16's


@pytest.mark.parametrize("how", LARGEST)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 3 * BLOCK), size=st.floats(1e-6, 1e6))
def test_integers_are_off_by_half_a_scale_at_most(how: str, seed: int, n: int, size: float):
    flat = (np.random.default_rng(seed).standard_normal(n) * size).astype(np.float32)
    blocks = [flat[first : first + BLOCK] for first in range(0, n, BLOCK)]
    scales = np.concatenate([np.full(block.size, np.abs(block).max() / LARGEST[how]) for block in blocks])

    # 0.5 and what fp32 adds: up to 127 steps of 2**-23 in the product before rounding and again after it
    assert (np.abs(returned(flat, how) - flat) <= 0.5001 * scales).all()


@pytest.mark.parametrize("how", LARGEST)
def test_in_integers_a_large_number_spoils_its_own_block_alone(how: str):
    flat = np.full(2 * BLOCK, 0.01, dtype=np.float32)
    flat[0] = 1000

    assert returned(flat, how)[1] == 0
    assert returned(flat, how)[BLOCK] == pytest.approx(0.01)


@given(st.lists(st.integers(-7, 7), min_size=1, max_size=20))
def test_int4_returns_the_numbers_that_it_can_hold(whole: list[int]):
    flat = np.array([*whole, 7], dtype=np.float32)  # so that a scale is 1

    assert returned(flat, "int4").tolist() == flat.tolist()


@pytest.mark.parametrize("how", LARGEST)
def test_integers_return_zeros_for_zeros(how: str):
    assert returned(np.zeros(BLOCK + 1, dtype=np.float32), how).tolist() == [0.0] * (BLOCK + 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("how", ["fp32", "bf16", "int8", "int4"])
def test_what_is_not_finite_arrives_as_not_finite(how: str, bad: float):
    flat = np.ones(2 * BLOCK, dtype=np.float32)
    flat[BLOCK + 7] = bad
    with np.errstate(invalid="ignore"):
        got = returned(flat, how)

    assert not np.isfinite(got[BLOCK + 7])
    assert np.isfinite(got[:BLOCK]).all()


@pytest.mark.parametrize("how", LARGEST)
def test_a_scale_may_have_no_inverse_in_fp32(how: str):
    flat = np.array([1e-39, 0, -1e-39], dtype=np.float32)

    assert returned(flat, how) == pytest.approx(flat, rel=0.01, abs=0)


@pytest.mark.parametrize("how", ["fp32", "bf16"])
def test_nothing_is_kept_of_floats(how: str):
    flat = np.array([1.0, np.pi], dtype=np.float32)
    payload, left = encode_keeping(flat, how, residual=None)

    assert left is None
    assert bytes(payload) == bytes(encode(flat, how))


@pytest.mark.parametrize("how", LARGEST)
@given(seed=st.integers(0, 2**32 - 1), n=st.sampled_from([1, BLOCK - 1, BLOCK + 1, AT_ONCE, AT_ONCE + 5]))
def test_what_is_kept_is_what_was_meant_less_what_arrives(how: str, seed: int, n: int):
    flat, residual = np.random.default_rng(seed).standard_normal((2, n)).astype(np.float32)
    for earlier, wanted in ((None, flat), (residual, flat + residual)):
        payload, left = encode_keeping(flat, how, residual=earlier)

        assert bytes(payload) == bytes(encode(wanted, how))
        assert left is not None
        assert left.tobytes() == (wanted - decode(payload, how, n)).tobytes()


def sums_after(rounds: int, how: str, *, feedback: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of what arrived and of what was meant, for an update whose small numbers are 0.13 of a scale, or
    less."""
    update = np.array([1.0, 0.001, -0.001, 0.0005], dtype=np.float32)
    arrived, residual = np.zeros(4), np.zeros(4, dtype=np.float32)
    for _ in range(rounds):
        wanted = update + residual if feedback else update
        got = returned(wanted, how)
        residual = wanted - got
        arrived += got
    return arrived, update * float(rounds)


@pytest.mark.parametrize("how", LARGEST)
def test_what_integers_round_off_arrives_later_when_it_is_added_to_the_next_update(how: str):
    arrived, meant = sums_after(200, how, feedback=True)

    assert np.abs(arrived - meant).max() < 1.01 / LARGEST[how]  # one scale; the largest number is 1 or little more


@pytest.mark.parametrize("how", LARGEST)
def test_what_integers_round_off_is_lost_when_nobody_keeps_it(how: str):
    arrived, meant = sums_after(200, how, feedback=False)

    assert arrived[1] == 0
    assert meant[1] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("how", "dtype", "n_bytes"),
    [
        ("fp32", "float32", 4100),
        ("fp32", "float64", 8200),
        ("bf16", "float32", 2050),
        ("int8", "float32", 2056),
        ("int4", "float32", 1032),
    ],
)
def test_a_thousand_and_some_numbers_take_as_many_bytes_as_their_kind_says(how: str, dtype: str, n_bytes: int):
    flat = np.ones(1025, dtype=dtype)  # two blocks of a scale and 1024 bytes in int8, half as many in int4

    assert encoded_bytes(1025, how, dtype) == n_bytes
    assert len(encode(flat, how)) == n_bytes


@pytest.mark.parametrize("how", ["fp32", "bf16", "int8", "int4"])
def test_another_size_is_refused(how: str):
    payload = bytes(encode(np.ones(8, dtype=np.float32), how))

    with pytest.raises(ValueError, match=f"bytes where 8 numbers in {how} take"):
        decode(payload[:-1], how, 8)
    with pytest.raises(ValueError, match=f"bytes where 8 numbers in {how} take"):
        decode(payload + b"\0", how, 8)


@pytest.mark.parametrize("n", [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE + 1025])
@pytest.mark.parametrize("how", ["bf16", "int8", "int4"])
def test_a_long_array_travels_as_its_parts_would(how: str, n: int):
    flat = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    parts = [flat[first : first + BLOCK] for first in range(0, n, BLOCK)]

    assert returned(flat, how).tobytes() == np.concatenate([returned(part, how) for part in parts]).tobytes()


@pytest.mark.parametrize("how", ["fp32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("statistics", [np.zeros(0), np.array([np.pi, np.nan]), np.ones(3, dtype=np.float32)])
def test_what_stands_behind_an_array_arrives_bit_for_bit(how: str, statistics: np.ndarray):
    payload = encode(np.ones(7, dtype=np.float32), how, statistics)

    assert behind(payload, statistics.size, statistics.dtype.name).tobytes() == statistics.tobytes()
