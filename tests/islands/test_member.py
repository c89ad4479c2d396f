import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from everyflop.base.errors import UsageError
from everyflop.base.version import VERSION
from everyflop.islands import member as member_module
from everyflop.islands.coordinator import Coordinator
from everyflop.islands.course import Course
from everyflop.islands.member import Ended, Member, Standing
from everyflop.islands.round_log import RoundLog
from everyflop.islands.wire import connect
from everyflop.spec.islands import IslandSpec, IslandsSpec


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


HOW = IslandsSpec(heartbeat_s=1.0, join_s=0.0, steps=2, rounds="steps", sync_share=0.0)
START = Standing(0, "h0", None)
UPDATE = {
    **{"round": 0, "hash": "h0", "weights": "h0", "arithmetic": "", "sequences": 2, "reach": 1.0, "steps": 2},
    **{"skipped": 0, "sizes": [2, 2], "samples": 4, "tokens": 40, "train_s": 1.0, "round_s": 1.0, "lost_s": 0.0},
    **{"leave": False, "lines": [], "n": 1, "dtype": "float32", "n_stats": 0, "stats_dtype": "float32"},
    "compress": "fp32",
}
"""The header of a sound update."""


class Listener:
    def event(self, kind, **facts):
        pass

    def committed(self, record, steps):
        pass

    def rewound(self, number):
        pass


@pytest.fixture
def coordinator(tmp_path) -> Iterator[tuple[Coordinator, str]]:
    """A coordinator of the islands a and b, with its address."""
    islands = (IslandSpec(name="a"), IslandSpec(name="b"))
    one = Coordinator(Course(islands, HOW, RoundLog(tmp_path / "rounds.jsonl"), Listener()))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=one.serve, args=(listening, b"secret"), daemon=True).start()
        yield one, f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def joined(coordinator) -> Iterator[Member]:
    """The island a, in the first round."""
    facts = {"train": {"tokens": 400, "seq_len": 10, "batch_tokens": 40}, "optim": {}}
    facts["islands"] = HOW.model_dump(mode="json")
    one = Member("a", coordinator[1], b"secret", facts=facts, tokens_per_s=1.0, heartbeat_s=1.0, give_state=dict)
    assert one.join(START)["kind"] == "begin"
    yield one
    one.leave()


def test_an_island_of_another_version_is_refused_before_anything_of_it_counts(coordinator, monkeypatch):
    monkeypatch.setattr(member_module, "VERSION", "9.9")
    one = Member("a", coordinator[1], b"secret", facts={}, tokens_per_s=1.0, heartbeat_s=1.0, give_state=dict)

    with pytest.raises(UsageError, match=f"it runs everyflop 9.9, and the coordinator {VERSION}: install one"):
        one.join(START)
    assert not coordinator[0].course.roster.members


def test_an_island_is_told_to_hurry_when_its_coordinator_is_gone(coordinator, joined):
    assert not joined.hurry.wait(0.3)
    with coordinator[0]._changed:
        coordinator[0].course.roster.members["a"].pulse.close()

    assert joined.hurry.wait(5.0)


def test_a_pulse_that_broke_alone_is_opened_again(coordinator, joined):
    members = coordinator[0].course.roster.members
    with coordinator[0]._changed:
        members["a"].pulse.close()
    assert joined.hurry.wait(5.0)
    joined._mend_pulse()
    time.sleep(2 * HOW.heartbeat_s)

    assert members["a"].lost == ""
    assert not joined.hurry.is_set()


def test_an_island_that_leaves_by_itself_is_in_no_hurry(joined):
    joined.leave()

    assert not joined.hurry.wait(0.3)


def test_a_pulse_that_comes_after_all_were_told_to_hurry_is_told_too(coordinator, joined):
    coordinator[0].stop()
    assert joined.hurry.wait(5.0)
    joined.hurry.clear()
    joined._open_pulse()

    assert joined.hurry.wait(5.0)


def test_a_process_that_comes_back_gets_its_own_pulse_and_not_that_of_the_one_before(coordinator, joined):
    joined._closed.set()  # it shows no life any more, and its connections stay open, as those of a lost machine do
    new = Member("a", coordinator[1], b"secret", facts=joined.facts, tokens_per_s=1.0, heartbeat_s=1.0, give_state=dict)
    started_s = time.monotonic()

    assert new.join(START)["kind"] == "begin"
    assert time.monotonic() - started_s < 4.0
    time.sleep(1.5)
    assert [m.lost for m in coordinator[0].course.roster.members.values()] == [""], "its pulse is heard"
    new.leave()


def test_an_island_that_waits_for_others_hears_that_it_is_to_stop(coordinator, joined):
    one = Member("b", coordinator[1], b"secret", facts=joined.facts, tokens_per_s=1.0, heartbeat_s=1.0, give_state=dict)
    with coordinator[0]._changed:
        coordinator[0].course.round = None  # nothing is under way, and nothing will be
        coordinator[0].course.how = coordinator[0].course.how.model_copy(update={"join_s": 3600.0})
    one.stopping = lambda: True

    with pytest.raises(Ended, match="stopped"):
        one.join(START)
    one.leave()


@pytest.mark.parametrize(
    "bad", [{"steps": "x"}, {"reach": None}, {"dtype": "nope"}, {"lines": 1}, {"train_s": float("nan")}]
)
def test_an_update_that_makes_no_sense_ends_its_island_and_no_other(coordinator, joined, bad):
    assert joined.hand_in(UPDATE | bad, b"") is None

    with contextlib.closing(connect(coordinator[1], b"secret")) as another:
        another.send({"kind": "status"})
        assert another.receive(5.0)[0]["kind"] == "status"
    assert "a" not in coordinator[0].course.roster.members


def test_an_island_that_cannot_give_its_state_says_so_to_who_waits_for_it(coordinator, joined, monkeypatch):
    def too_large() -> None:
        raise MemoryError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    joined._give_state = too_large
    with coordinator[0]._changed:
        coordinator[0].course.roster.members["a"].pulse.send({"kind": "give_state", "request": 1})

    assert joined.hurry.wait(5.0)
    assert joined._pulse_lost


def test_a_coordinator_that_cannot_open_more_listens_again_when_it_can():
    failures = [OSError(errno.EMFILE, "too many"), OSError(errno.EMFILE, "too many")]

    class Busy:
        def accept(self):
            raise failures.pop(0)

        def fileno(self):
            return 7 if failures else -1

    Coordinator._accept(None, Busy(), b"secret", None)

    assert failures == []
