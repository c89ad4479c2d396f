import struct

import numpy as np
import pytest

from everyflop.base.errors import DamagedFile, DataError
from everyflop.data.shards import ShardWriter, open_shard

DOCUMENTS = [[5, 6, 0], [7, 0], [8, 9, 10, 0]]


def write(prefix, documents, *, vocab_size=300):
    with ShardWriter(prefix, vocab_size=vocab_size) as shard:
        for document in documents:
            shard.write(np.array(document))
            shard.end_document()


def test_files_have_megatrons_layout_for_a_small_vocabulary(tmp_path):
    write(tmp_path / "a", DOCUMENTS)

    assert (tmp_path / "a.bin").read_bytes() == struct.pack("<9H", 5, 6, 0, 7, 0, 8, 9, 10, 0)
    assert (tmp_path / "a.idx").read_bytes() == (
        b"MMIDIDX\x00\x00"
        + struct.pack("<Q", 1)  # version
        + struct.pack("<B", 8)  # uint16
        + struct.pack("<Q", 3)  # sequences
        + struct.pack("<Q", 4)  # document indices
        + struct.pack("<3i", 3, 2, 4)  # lengths
        + struct.pack("<3q", 0, 6, 10)  # byte offsets
        + struct.pack("<4q", 0, 1, 2, 3)  # document indices
    )


def test_files_have_megatrons_layout_for_a_large_vocabulary(tmp_path):
    write(tmp_path / "a", [[70_000, 0], [3, 0]], vocab_size=126_464)

    assert (tmp_path / "a.bin").read_bytes() == struct.pack("<4i", 70_000, 0, 3, 0)
    assert (tmp_path / "a.idx").read_bytes() == (
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, 4, 2, 3)  # 4 = int32
        + struct.pack("<2i", 2, 2)
        + struct.pack("<2q", 0, 8)
        + struct.pack("<3q", 0, 1, 2)
    )


@pytest.mark.parametrize(("vocab_size", "token_bytes"), [(65_536, 2), (65_537, 4)])
def test_two_bytes_hold_a_token_up_to_65536_ids(tmp_path, vocab_size, token_bytes):
    write(tmp_path / "a", [[vocab_size - 1]], vocab_size=vocab_size)

    assert (tmp_path / "a.bin").stat().st_size == token_bytes
    assert open_shard(tmp_path / "a").tokens_N.tolist() == [vocab_size - 1]


def test_documents_are_read_back(tmp_path):
    write(tmp_path / "v1.5", DOCUMENTS)
    shard = open_shard(tmp_path / "v1.5")

    assert [shard.document(number).tolist() for number in range(3)] == DOCUMENTS


def test_a_document_may_come_in_pieces(tmp_path):
    with ShardWriter(tmp_path / "a", vocab_size=300) as shard:
        shard.write(np.array([1, 2]))
        shard.write(np.array([3]))
        shard.end_document()

    assert open_shard(tmp_path / "a").document(0).tolist() == [1, 2, 3]


@pytest.mark.parametrize("bad", [300, -1])
def test_an_id_outside_the_vocabulary_is_refused(tmp_path, bad):
    with pytest.raises(DataError, match="vocabulary of 300"):
        write(tmp_path / "a", [[1, bad]])


def test_a_writer_that_fails_leaves_no_index(tmp_path):
    with pytest.raises(DataError):
        write(tmp_path / "a", [[1], [999]])

    assert not (tmp_path / "a.idx").exists()


def test_a_shard_without_documents_can_be_opened(tmp_path):
    write(tmp_path / "a", [])

    assert len(open_shard(tmp_path / "a").tokens_N) == 0


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
@pytest.mark.parametrize("change", ["shorter", "longer", "missing"])
def test_a_file_of_another_size_is_refused(tmp_path, suffix, change):
    write(tmp_path / "a", DOCUMENTS)
    file = tmp_path / f"a{suffix}"
    content = file.read_bytes()
    if change == "missing":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if change == "shorter" else content + b"\0")

    with pytest.raises(DamagedFile, match="Prepare the data again"):
        open_shard(tmp_path / "a")


@pytest.mark.parametrize(("offset", "what"), [(0, "magic"), (9, "version"), (17, "type code")])
def test_an_index_with_another_header_is_refused(tmp_path, offset, what):
    write(tmp_path / "a", DOCUMENTS)
    content = bytearray((tmp_path / "a.idx").read_bytes())
    content[offset] = 99
    (tmp_path / "a.idx").write_bytes(content)

    with pytest.raises(DamagedFile, match="no index of version 1"):
        open_shard(tmp_path / "a")
