import socket

import pytest

from everyflop.base.errors import UsageError
from everyflop.islands.member import Ended, Member, Standing


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def member(address: str, *, patience_s: float) -> Member:
    state = {"facts": {}, "tokens_per_s": 1.0, "heartbeat_s": 1.0, "give_state": lambda: ({}, b"")}
    return Member("a", address, b"secret", patience_s=patience_s, **state)


def test_an_island_that_is_to_stop_waits_for_no_coordinator(nobody):
    one = member(nobody, patience_s=3600.0)
    one.stopping = lambda: True

    with pytest.raises(Ended, match="stopped"):
        one.join(Standing(0, "", None))


def test_an_island_whose_patience_ends_says_where_it_looked(nobody):
    with pytest.raises(UsageError, match=f"the coordinator at {nobody} cannot be reached"):
        member(nobody, patience_s=0.0).join(Standing(0, "", None))
