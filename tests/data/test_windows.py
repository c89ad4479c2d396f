from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everyflop.data.shards import ShardWriter, open_shard
from everyflop.data.windows import WindowSet

EOT = 0


@pytest.fixture
def windows_of(tmp_path):
    """Write shards, one for each list of documents (without end-of-text), and cut them into windows."""

    def make(*shards, seq_len: int, attend_within_document: bool = True) -> WindowSet:
        opened = []
        for number, documents in enumerate(shards):
            with ShardWriter(tmp_path / str(number), vocab_size=300) as writer:
                for document in documents:
                    writer.write(np.array([*document, EOT]))
                    writer.end_document()
            opened.append(open_shard(Path(tmp_path / str(number))))
        return WindowSet(
            opened, seq_len=seq_len, eot_id=EOT, attend_within_document=attend_within_document, text_bytes=0
        )

    return make


SHARDS = st.lists(
    st.lists(st.lists(st.integers(1, 299), min_size=1, max_size=12), min_size=1, max_size=8), min_size=1, max_size=3
)
any_shards = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


def test_a_worked_example(windows_of):
    # Stream of targets: 11 12 0 | 21 22 23 0, in windows of four; the last lacks one.
    windows = windows_of([[11, 12], [21, 22, 23]], seq_len=4)
    batch = windows.windows([0, 1])

    assert batch.inputs_BT.tolist() == [[0, 11, 12, 0], [21, 22, 23, 0]]
    assert batch.targets_BT.tolist() == [[11, 12, 0, 21], [22, 23, 0, 0]]
    assert batch.loss_mask_BT.tolist() == [[True] * 4, [True, True, True, False]]
    assert batch.documents_BT.tolist() == [[1, 1, 1, 2], [0, 0, 0, 1]]
    assert batch.sample_numbers_B.tolist() == [0, 1]


def test_arrays_have_the_types_that_a_model_takes(windows_of):
    batch = windows_of([[11, 12]], seq_len=4).windows([0])

    assert batch.inputs_BT.dtype == batch.targets_BT.dtype == batch.sample_numbers_B.dtype == np.int64
    assert batch.loss_mask_BT.dtype == np.bool_
    assert batch.documents_BT.dtype == np.int32
    assert batch.inputs_BT.flags["C_CONTIGUOUS"]
    assert batch.targets_BT.flags["C_CONTIGUOUS"]


@any_shards
@given(shards=SHARDS, seq_len=st.integers(1, 20))
def test_every_token_is_a_target_exactly_once(windows_of, shards, seq_len):
    windows = windows_of(*shards, seq_len=seq_len)
    batch = windows.windows(range(len(windows)))

    expected = [token for documents in shards for document in documents for token in [*document, EOT]]
    assert batch.targets_BT[batch.loss_mask_BT].tolist() == expected
    assert windows.n_tokens == len(expected)


@any_shards
@given(shards=SHARDS, seq_len=st.integers(1, 20))
def test_the_input_of_a_target_is_the_token_before_it_or_end_of_text_at_a_documents_start(windows_of, shards, seq_len):
    windows = windows_of(*shards, seq_len=seq_len)
    batch = windows.windows(range(len(windows)))

    expected = [token for documents in shards for document in documents for token in [EOT, *document]]
    assert batch.inputs_BT[batch.loss_mask_BT].tolist() == expected


@any_shards
@given(shards=SHARDS, seq_len=st.integers(2, 20))
def test_neighbouring_positions_share_an_id_exactly_when_they_share_a_document(windows_of, shards, seq_len):
    windows = windows_of(*shards, seq_len=seq_len)
    batch = windows.windows(range(len(windows)))

    owners = []
    for documents in shards:
        stream = [number for number, document in enumerate(documents) for _ in [*document, EOT]]
        padded = -(-len(stream) // seq_len) * seq_len
        owners += [*stream, *range(-1, len(stream) - padded - 1, -1)]  # padding belongs to nothing
    owners_BT = np.reshape(owners, (-1, seq_len))
    same_owner = owners_BT[:, 1:] == owners_BT[:, :-1]
    same_id = batch.documents_BT[:, 1:] == batch.documents_BT[:, :-1]
    assert (same_owner == same_id).all()


def test_ids_are_all_zero_when_attention_may_cross_documents(windows_of):
    batch = windows_of([[11, 12], [21]], seq_len=4, attend_within_document=False).windows([0, 1])

    assert not batch.documents_BT.any()


def test_windows_come_in_the_order_asked_for_and_may_repeat(windows_of):
    windows = windows_of([[1, 2, 3]], [[4, 5, 6]], seq_len=2)

    assert windows.windows([3, 0, 3]).targets_BT.tolist() == [[6, 0], [1, 2], [6, 0]]


def test_a_window_never_reaches_into_the_next_shard(windows_of):
    batch = windows_of([[1]], [[2]], seq_len=8).windows([0, 1])

    assert batch.targets_BT[batch.loss_mask_BT].tolist() == [1, 0, 2, 0]
    assert batch.loss_mask_BT.sum(axis=1).tolist() == [2, 2]


@pytest.mark.parametrize("index", [-1, 2])
def test_a_window_that_does_not_exist_is_refused(windows_of, index):
    with pytest.raises(IndexError):
        windows_of([[1, 2, 3]], seq_len=2).windows([index])


def test_texts_are_the_documents(tmp_path, tokenizer, stories):
    with ShardWriter(tmp_path / "a", vocab_size=tokenizer.vocab_size) as writer:
        for ids in tokenizer.encode(stories):
            writer.write(np.append(ids, tokenizer.eot_id))
            writer.end_document()
    windows = WindowSet(
        [open_shard(tmp_path / "a")], seq_len=8, eot_id=tokenizer.eot_id, attend_within_document=True, text_bytes=0
    )

    assert list(windows.texts(tokenizer)) == stories
