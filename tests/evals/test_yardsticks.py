import gzip
import lzma
import math
import random
import shutil
import subprocess
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.base.errors import DataError
from everyflop.evals.yardsticks import ByteNgram, yardsticks

BYTES = [bytes([value]) for value in range(256)]
TEXT = b"for i in range(10):\n    print(i)\nfor j in range(3):\n    print(j, j)\n" * 3


class LiteralNgram:
    """Witten-Bell interpolation, word for word, with dictionaries."""

    def __init__(self, text: bytes):
        self.followers: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        for n in range(5):
            for i in range(n, len(text)):
                self.followers[text[i - n : i]][text[i]] += 1

    def probability(self, context: bytes, byte: int) -> float:
        shorter = self.probability(context[1:], byte) if context else 1 / 256
        followers = self.followers.get(context)
        if not followers:
            return shorter
        return (followers[byte] + len(followers) * shorter) / (followers.total() + len(followers))


def test_probabilities_are_those_of_a_literal_implementation():
    text = b"for k in range(7):\n\tprint(\x00\xff, k)\n"
    literal = LiteralNgram(TEXT)

    expected = [literal.probability(text[max(0, i - 4) : i], text[i]) for i in range(len(text))]
    assert ByteNgram(TEXT).probabilities(text) == pytest.approx(expected, rel=1e-12)


def test_one_order_is_worked_by_hand():
    # "ab" seen once: no context, a and b once each, 2 distinct of 2 in all: (1 + 2/256) / 4 for the a.
    # The b after "a": order 1 gives the same q, and context "a" had 1 byte, always b: (1 + 1 * q) / 2.
    q = (1 + 2 / 256) / 4

    assert ByteNgram(b"ab").probabilities(b"ab") == pytest.approx([q, (1 + q) / 2])


@given(
    context=st.binary(max_size=6) | st.sampled_from([TEXT[i : i + 4] for i in range(40)]), text=st.binary(max_size=50)
)
def test_the_probabilities_of_all_256_bytes_sum_to_one_after_any_context(context: bytes, text: bytes):
    model = ByteNgram(TEXT + text)

    assert sum(model.probabilities(context + byte)[-1] for byte in BYTES) == pytest.approx(1.0, abs=1e-12)


def test_no_training_text_leaves_eight_bits_a_byte():
    assert yardsticks(b"anything", [])["byte_5gram"] == pytest.approx(8.0)


def test_a_text_seen_many_times_costs_almost_nothing():
    assert ByteNgram(b"abcdefgh" * 1000).bits_per_byte(b"abcdefgh" * 100) < 0.05


def test_random_bytes_cost_at_least_eight_bits():
    rng = random.Random(0)

    assert ByteNgram(rng.randbytes(20_000)).bits_per_byte(rng.randbytes(20_000)) >= 8.0


def test_pieces_of_the_training_text_are_joined():
    assert yardsticks(TEXT, [TEXT[:50], TEXT[50:]])["byte_5gram"] == ByteNgram(TEXT).bits_per_byte(TEXT)


def test_bits_per_byte_are_the_mean_of_minus_log2_of_the_probabilities():
    model = ByteNgram(TEXT)
    by_hand = -sum(math.log2(p) for p in model.probabilities(TEXT)) / len(TEXT)

    assert model.bits_per_byte(TEXT) == pytest.approx(by_hand)


def test_gzip_and_xz_are_what_the_command_line_tools_make_of_the_text():
    if not (shutil.which("xz") and shutil.which("gzip")):
        pytest.skip("needs xz and gzip")
    text = Path(random.__file__).read_bytes()  # long enough for the presets to differ
    result = yardsticks(text, [])

    xz_bytes = subprocess.run(["xz", "-9e", "-c"], input=text, capture_output=True, check=True).stdout
    gzip_bytes = subprocess.run(["gzip", "-9", "-n", "-c"], input=text, capture_output=True, check=True).stdout
    assert lzma.decompress(xz_bytes) == gzip.decompress(gzip_bytes) == text
    # Another build of the same algorithm may save a few bytes more or less.
    assert result["xz"] == pytest.approx(8 * len(xz_bytes) / len(text), rel=0.003)
    assert result["gzip"] == pytest.approx(8 * len(gzip_bytes) / len(text), rel=0.003)


def test_gzip_works_at_its_highest_level():
    text = Path(random.__file__).read_bytes()

    # The same stream in zlib's wrapping: 6 bytes around it where gzip has 18.
    assert yardsticks(text, [])["gzip"] == 8 * (len(zlib.compress(text, 9)) + 12) / len(text)


def test_an_empty_validation_text_is_refused():
    with pytest.raises(DataError, match="empty"):
        yardsticks(b"", [b"text"])
