import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from everyflop.islands.checksum import checksum
from everyflop.islands.codec import bytes_of


@given(st.binary(min_size=1, max_size=5000), st.data())
def test_one_flipped_bit_is_told(payload: bytes, data: st.DataObject):
    flipped = bytearray(payload)
    flipped[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    assert checksum(memoryview(flipped)) != checksum(payload)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_parts_count_in_their_order_and_as_if_they_were_one(one: bytes, other: bytes):
    assert checksum(one, other) == checksum(one + other)
    assert (checksum(one, other) == checksum(other, one)) == (one + other == other + one)


def test_an_array_is_its_bytes():
    array = np.arange(8, dtype=np.float32)

    assert checksum(bytes_of(array)) == checksum(array.tobytes())


def test_it_is_the_same_everywhere():
    """XXH3 of nothing, as its specification has it: islands and round logs of all machines must agree."""
    assert checksum() == "2d06800538d394c2"
