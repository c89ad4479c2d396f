import pytest
import torch
from torch import Tensor

from everyflop.model.cache import KVCache


def keys(*values: float) -> Tensor:
    """One row, one head, two channels, a position for each value."""
    return torch.tensor(values)[None, None, :, None].expand(1, 1, -1, 2)


def test_new_positions_follow_those_before():
    cache = KVCache(5)
    cache.extend(0, keys(1, 2), -keys(1, 2))
    cache.advance(2)

    k, v = cache.extend(0, keys(3), -keys(3))

    assert torch.equal(k, keys(1, 2, 3))
    assert torch.equal(v, -keys(1, 2, 3))


def test_layers_are_kept_apart_and_start_at_the_same_position():
    cache = KVCache(4)

    first, _ = cache.extend(0, keys(1, 2), keys(1, 2))
    second, _ = cache.extend(7, keys(8, 9), keys(8, 9))

    assert torch.equal(first, keys(1, 2))
    assert torch.equal(second, keys(8, 9))


def test_positions_count_as_past_only_after_advancing():
    cache = KVCache(4)
    cache.extend(0, keys(1, 2), keys(1, 2))
    assert cache.length == 0

    cache.advance(2)

    assert cache.length == 2


def test_keys_and_values_may_have_different_widths():
    cache = KVCache(2)

    k, v = cache.extend(0, torch.ones(1, 2, 1, 3), torch.ones(1, 2, 1, 5))

    assert (k.shape, v.shape) == ((1, 2, 1, 3), (1, 2, 1, 5))


def test_the_cache_keeps_the_type_of_what_it_holds():
    k, _ = KVCache(2).extend(0, keys(1).bfloat16(), keys(1).bfloat16())

    assert k.dtype == torch.bfloat16


def test_a_full_cache_takes_no_more():
    cache = KVCache(2)
    cache.extend(0, keys(1, 2), keys(1, 2))
    cache.advance(2)

    with pytest.raises(AssertionError, match="3 positions do not fit a cache of 2"):
        cache.extend(0, keys(3), keys(3))
