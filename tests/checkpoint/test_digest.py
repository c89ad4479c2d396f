import hashlib
import struct

import pytest
import torch

from everyflop.checkpoint import weights_sha256


def test_the_hash_covers_a_line_of_name_dtype_and_shape_and_then_the_bytes_in_name_order():
    tensors = {"b": torch.tensor([1.0, -2.0]), "a": torch.tensor(3)}

    by_hand = b'["a", "int64", []]\n' + struct.pack("<q", 3) + b'["b", "float32", [2]]\n' + struct.pack("<2f", 1, -2)
    assert weights_sha256(tensors) == hashlib.sha256(by_hand).hexdigest()


def test_bfloat16_is_hashed_by_its_two_bytes():
    by_hand = b'["w", "bfloat16", [1]]\n' + bytes([0x80, 0x3F])  # 1.0 is 0x3F80
    assert weights_sha256({"w": torch.ones(1, dtype=torch.bfloat16)}) == hashlib.sha256(by_hand).hexdigest()


def test_a_view_hashes_like_its_copy():
    whole = torch.arange(6.0).view(2, 3)

    assert weights_sha256({"w": whole.t()}) == weights_sha256({"w": whole.t().contiguous()})


@pytest.mark.parametrize(
    "other",
    [
        {"v": torch.zeros(2, 3)},
        {"w": torch.zeros(3, 2)},
        {"w": torch.zeros(2, 3, dtype=torch.int32)},
        {"w": -torch.zeros(2, 3)},
        {"w": torch.zeros(2, 3), "x": torch.empty(0)},
    ],
    ids=["name", "shape", "dtype", "sign of zero", "empty tensor"],
)
def test_any_difference_changes_the_hash(other: dict[str, torch.Tensor]):
    assert weights_sha256(other) != weights_sha256({"w": torch.zeros(2, 3)})
