import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everyflop.base.errors import DataError
from everyflop.data.shards import ShardWriter, open_shard
from everyflop.data.stream import TrainStream
from everyflop.data.windows import WindowSet

EOT, SEQ_LEN = 0, 4
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@pytest.fixture(scope="module")
def stream_of(tmp_path_factory, tokenizer):
    """A stream over sources of so many windows each; the first target of a window is (source + 1) * 100 + window."""
    folder = tmp_path_factory.mktemp("shards")
    tokenizer_path = folder / "tokenizer.json"
    tokenizer_path.write_bytes(tokenizer.content)

    def windows(sizes) -> WindowSet:
        shards = []
        for source, size in enumerate(sizes):
            prefix = folder / f"{source}-{size}"
            if not prefix.with_name(prefix.name + ".idx").exists():
                with ShardWriter(prefix, vocab_size=70_000) as writer:
                    for window in range(size):
                        writer.write(np.array([(source + 1) * 100 + window, 1, 2, EOT]))
                        writer.end_document()
            shards.append(open_shard(prefix))
        return WindowSet(shards, seq_len=SEQ_LEN, eot_id=EOT, attend_within_document=True, text_bytes=0)

    def make(sizes, weights=None, *, block=8, seed=0, phase=0) -> TrainStream:
        weights = weights or [1.0] * len(sizes)
        return TrainStream(
            windows(sizes),
            names=[f"source{number}" for number in range(len(sizes))],
            weights=weights,
            block=block,
            seed=seed,
            phase=phase,
            tokenizer_path=tokenizer_path,
        )

    return make


def firsts(batch) -> list[int]:
    return batch.targets_BT[:, 0].tolist()


@quick
@given(cuts=st.lists(st.integers(0, 60), max_size=8), seed=st.integers(0, 2**63 - 1))
def test_the_global_stream_is_the_same_for_any_split_over_ranks(stream_of, cuts, seed):
    whole = firsts(stream_of([7, 30], [1, 3], seed=seed).batch(0, 60))

    joined = []
    for first, end in itertools.pairwise([0, *sorted(cuts), 60]):
        rank = stream_of([7, 30], [1, 3], seed=seed)  # knows nothing of the others
        joined += firsts(rank.batch(first, end - first))
    assert joined == whole


@quick
@given(numbers=st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_any_samples_can_be_asked_for_in_any_order(stream_of, numbers):
    stream = stream_of([7, 30], [1, 3])
    batch = stream.batch_of(numbers)

    assert batch.sample_numbers_B.tolist() == numbers
    assert firsts(batch) == [firsts(stream.batch(number, 1))[0] for number in numbers]


@quick
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4), data=st.data())
def test_every_block_holds_each_source_to_within_one_window_of_its_weight(stream_of, sizes, data):
    weights = data.draw(st.lists(st.floats(0.2, 5), min_size=len(sizes), max_size=len(sizes)))
    stream = stream_of(sizes, weights, block=100)
    for block in range(3):
        sources = Counter(first // 100 - 1 for first in firsts(stream.batch(block * 100, 100)))
        for source, weight in enumerate(weights):
            assert abs(sources[source] - 100 * weight / sum(weights)) < 1 + 1e-9


@quick
@given(size=st.integers(1, 60), seed=st.integers(0, 1000), epoch=st.integers(0, 3))
def test_an_epoch_reads_every_window_once_where_blocks_and_epochs_end_together(stream_of, size, seed, epoch):
    stream = stream_of([size], block=size, seed=seed)
    windows = firsts(stream.batch(epoch * size, size))

    assert sorted(windows) == [100 + window for window in range(size)]


def test_each_source_reads_every_window_once_an_epoch_while_mixed(stream_of):
    stream = stream_of([6, 10], [3, 5], block=16)  # 6 + 10 windows a block: one epoch of both
    for block in range(4):
        assert sorted(firsts(stream.batch(block * 16, 16))) == [*range(100, 106), *range(200, 210)]


def test_epochs_come_in_different_orders(stream_of):
    stream = stream_of([50], block=1)  # a block of one window has one order only

    assert firsts(stream.batch(0, 50)) != firsts(stream.batch(50, 50))


@pytest.mark.parametrize("other", [{"seed": 1}, {"phase": 1}])
def test_another_seed_or_phase_orders_windows_otherwise(stream_of, other):
    assert firsts(stream_of([50], block=1).batch(0, 50)) != firsts(stream_of([50], block=1, **other).batch(0, 50))


def order_of_sources(stream, first: int = 0) -> list[int]:
    return [window // 100 - 1 for window in firsts(stream.batch(first, 32))]


def test_blocks_mix_their_sources_in_different_orders(stream_of):
    stream = stream_of([50, 50], block=32)

    assert order_of_sources(stream) != order_of_sources(stream, first=32)


@pytest.mark.parametrize("other", [{"seed": 1}, {"phase": 1}])
def test_another_seed_or_phase_mixes_sources_otherwise(stream_of, other):
    assert order_of_sources(stream_of([50, 50], block=32)) != order_of_sources(stream_of([50, 50], block=32, **other))


def test_sources_of_equal_size_are_not_read_in_step(stream_of):
    windows = stream_of([50, 50], block=2).window_indices(np.arange(100)).tolist()
    orders = [[w for w in windows if w < 50], [w - 50 for w in windows if w >= 50]]

    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


def test_epochs_are_counted_for_each_source(stream_of):
    stream = stream_of([6, 20], [1, 1], block=4)

    assert stream.epochs_at(0) == {"source0": 0.0, "source1": 0.0}
    assert stream.epochs_at(24) == {"source0": 2.0, "source1": 0.6}  # 12 windows of each


@quick
@given(n_samples=st.integers(0, 40))
def test_epochs_inside_a_block_count_what_was_read(stream_of, n_samples):
    stream = stream_of([6, 20], [1, 3], block=16)
    of_first = sum(first < 200 for first in firsts(stream.batch(0, n_samples)))

    assert stream.epochs_at(n_samples) == {"source0": of_first / 6, "source1": (n_samples - of_first) / 20}


def test_consumed_text_is_what_the_targets_say(stream_of, tokenizer):
    stream = stream_of([9, 9])
    batch = stream.batch(0, 5)

    expected = [tokenizer.decode([row])[0].encode() for row in batch.targets_BT]
    assert list(stream.consumed_text(5)) == expected


def test_a_negative_sample_number_is_refused(stream_of):
    with pytest.raises(ValueError, match="-1 is negative"):
        stream_of([9]).batch_of([3, -1])


def test_a_weight_too_small_for_a_block_is_refused(stream_of):
    with pytest.raises(DataError, match="mixture_block = 8"):
        stream_of([9, 9], [1, 1000])
