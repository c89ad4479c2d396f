"""Who takes part: the islands that are connected now, and what each has done and cost over the whole run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from everyflop.accounting.money import cost
from everyflop.islands.codec import Payload
from everyflop.islands.commit import Merged, Update
from everyflop.islands.guards import REMEMBERED
from everyflop.islands.rounds import RESERVE
from everyflop.islands.wire import Connection, Header
from everyflop.spec.islands import IslandsSpec

HANG_STEPS, HANG_AT_LEAST_S, FIRST_STEP_S = 5.0, 20.0, 600.0
"""An island without progress for this many of its longest steps, and this long at least, hangs. Its first step is given
more: compiling a model takes minutes on a busy machine. So is what has no steps, saving and validating."""

CATCH_UP_S = 10.0
"""How long a commit waits for an island that is just being given the anchor, beside the time that it travels: it would
miss the round otherwise."""

BEHIND_S = 600.0
"""How long islands whose newest anchor is older than the round log's wait for one that has a newer one: its machine may
be slow to come back, and going on without it does again what was done."""

SIGN_BYTES = 1000
"""A sign of life has fewer; more at once is an island's state, on its way to another."""

NEW_SPEED, TRUSTED_AFTER = 0.3, 3
"""Weight of a round's measured speed against what was known before, from that round of an island on."""

Reply = tuple[Header, Payload]


@dataclass(slots=True)
class Account:
    """One island's totals, over all its processes. Part of every commit, so that they survive whatever happens."""

    held_s: float = 0.0
    """Time it was connected: that is what is paid for."""
    cost: float | None = 0.0
    """Of that time, at the price of the day: whoever leaves, or gets dearer, has been paid. None without a price."""
    train_s: float = 0.0
    """Of that, in forward, backward and optimizer steps, simulated waiting of slower devices included."""
    tokens: int = 0
    steps: int = 0
    rounds: int = 0
    joins: int = 0
    rejected: int = 0
    sent_bytes: int = 0
    """By all its connections: updates, signs of life, and its state where it gave that to others."""
    received_bytes: int = 0

    def add(self, update: Update, merged: Merged) -> None:
        """Book an island's part in a commit."""
        self.tokens += update.tokens
        self.steps += update.steps
        self.rounds += 1
        self.train_s += update.header["train_s"]
        self.rejected += int(not merged.verdicts[update.island].accepted)


SPENT = ("held_s", "cost", "joins", "sent_bytes", "received_bytes")
"""What no going back to an earlier commit undoes."""

NONE, NOTHING = Account(), {"busy_s": 0.0, "accounts": {}, "rates": {}}
"""An account and a commit before anything was done."""


@dataclass(slots=True)
class Member:
    """A connected island."""

    name: str
    connection: Connection
    session: str = ""
    """Of its process, which its pulse names too."""
    measured: float = 0.0
    """Tokens/s that it measured before it took part."""
    pulse: Connection | None = None
    speed: float = 1.0
    """Tokens/s while it trains; where rounds are counted in steps, what the run file says, over one another's."""
    round: int = 0
    """Number of the round whose anchor it holds."""
    hash: str = ""
    record: dict[str, Any] | None = None
    """The newest commit that it knows."""
    arithmetic: str = ""
    """How it rounds."""
    abandoned: bool = False
    """Whether the run has gone back from its past."""
    fresh: bool = True
    """Whether its process has not been in the run yet."""
    phase: str = "joining"
    """joining, catching up, in round, handed in."""
    last_seen_s: float = 0.0
    progress: int = -1
    progressed_s: float = 0.0
    longest_step_s: float = 0.0
    behind: tuple[int, float] = (-1, 0.0)
    """In which round it was first told to fetch the anchor, and when."""
    fetching: bool = False
    """Whether another island's state is on its way to it."""
    busy: bool = False
    """Whether it saves or validates."""
    counted: tuple[int, int] = (0, 0)
    """Bytes that it had sent and received when they were last booked."""
    heard: tuple[int, int] = (0, 0)
    """Bytes that it had sent, and that it had sent and received on its main connection, when it was last looked at."""
    reply: tuple[int, Reply] | None = None
    """The number of the last round that it was in, and what it is told of it."""
    leaving: bool = False
    lost: str = ""
    """Why it is gone; empty while it is there."""

    def gone(self, now_s: float, how: IslandsSpec) -> str:
        """Return why it must be taken for lost; empty while it shows life and gets on."""
        self._note_bytes(now_s)
        if now_s - self.last_seen_s > how.heartbeat_s:
            return f"silent for {how.heartbeat_s:g} s"
        known_s = max(HANG_AT_LEAST_S, HANG_STEPS * self.longest_step_s)
        patience_s = how.hang_s or (known_s if self.longest_step_s else FIRST_STEP_S)
        patience_s = max(patience_s, FIRST_STEP_S) if self.busy else patience_s
        if self.phase == "in round" and now_s - self.progressed_s > patience_s:
            return f"no progress for {patience_s:.1f} s: it hangs"
        return ""

    def catches_up(self, now_s: float) -> bool:
        """Whether a commit should wait until it has the anchor."""
        if self.phase != "catching up":
            return False
        return now_s - self.behind[1] < CATCH_UP_S or (self.fetching and now_s - self.progressed_s < CATCH_UP_S)

    def note_sign(self, header: Header, now_s: float) -> None:
        """Take in what its pulse tells."""
        if header["progress"] != self.progress or header["busy"] != self.busy:
            self.progress, self.progressed_s, self.busy = header["progress"], now_s, header["busy"]
            self.longest_step_s = max(self.longest_step_s, header["step_s"])

    def _note_bytes(self, now_s: float) -> None:
        """Take what arrives for life, and an update or state on its way for progress: that may take minutes."""
        main, pulse = self.connection, self.pulse
        heard = main.received_bytes + (pulse.received_bytes if pulse else 0), main.received_bytes + main.sent_bytes
        if heard[0] != self.heard[0]:
            self.last_seen_s = now_s
        if heard[1] != self.heard[1] or heard[0] - self.heard[0] >= SIGN_BYTES:
            self.progressed_s = now_s
        self.heard = heard

    def traffic(self) -> tuple[int, int]:
        """Return the bytes that it sent and received since this was last asked."""
        ends = [end for end in (self.connection, self.pulse) if end is not None]
        now = sum(end.received_bytes for end in ends), sum(end.sent_bytes for end in ends)
        before, self.counted = self.counted, now
        return now[0] - before[0], now[1] - before[1]

    def note_speed(self, tokens_per_s: float, *, rounds: int) -> None:
        """Take in the speed of a round; the first ones replace what was guessed, and one beyond the samples held."""
        known = self.speed
        replace = rounds < TRUSTED_AFTER or tokens_per_s > RESERVE * known
        self.speed = tokens_per_s if replace else known + NEW_SPEED * (tokens_per_s - known)


@dataclass(slots=True)
class Roster:
    """All islands of a run by name."""

    prices: Mapping[str, float | None] = field(default_factory=dict)
    """Of each island's hour, all of its devices; None where it is not known."""
    members: dict[str, Member] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    """Islands that were silent or hung, until they join again, and why."""
    accounts: dict[str, Account] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    """Size (see commit.py) of each island's accepted updates and of the statistics beside them, newest last; one list
    for each kind of exchange, "weights/NAME" and "statistics of weights/NAME", and the same of gradients."""
    busy_s: float = 0.0
    """Time in which an island was connected."""
    charged_s: float = 0.0
    closed: bool = False
    """Whether the last commit has been made: what follows is no training, and nothing is charged for it."""

    def admit(self, member: Member) -> None:
        """Take an island in."""
        self.members[member.name] = member
        self.given_up.pop(member.name, None)
        self.account(member.name).joins += 1

    def account(self, name: str) -> Account:
        """Return an island's totals."""
        return self.accounts.setdefault(name, Account())

    def remember_rates(self, rates: Mapping[str, float]) -> None:
        """Add to the history that guards compare with."""
        for key, rate in rates.items():
            self.rates[key] = [*self.rates.get(key, []), rate][-REMEMBERED:]

    def charge(self, now_s: float) -> None:
        """Add time and traffic since the last charge to the accounts of those connected, before any comes or goes."""
        if self.closed:
            return
        gone_s = now_s - self.charged_s
        self.charged_s = now_s
        self.busy_s += gone_s if self.members else 0.0
        for name, member in self.members.items():
            account, (sent, received) = self.account(name), member.traffic()
            account.held_s += gone_s
            price = self.prices.get(name)
            account.cost = _sum(account.cost, None if price is None else cost(gone_s, price))
            account.sent_bytes, account.received_bytes = account.sent_bytes + sent, account.received_bytes + received

    def to_json(self) -> dict[str, Any]:
        """Return times, accounts and rates as plain JSON."""
        return {
            "busy_s": self.busy_s,
            "accounts": {name: asdict(one) for name, one in sorted(self.accounts.items())},
            "rates": dict(self.rates),
        }

    def restore(self, commit: Mapping[str, Any] | None, *, known: Sequence[Mapping[str, Any] | None]) -> None:
        """Go back to a commit, or to the beginning where there is none.

        What was spent since stays: time, money and traffic, here and by the newest `known` of earlier processes.
        """
        spent = max((one for one in known if one), key=lambda one: one["busy_s"], default=None)
        here, earlier = self.accounts, _accounts(spent)
        self.accounts = _accounts(commit)
        self.rates = {key: [*rates] for key, rates in (commit or NOTHING)["rates"].items()}
        self.busy_s += (spent or NOTHING)["busy_s"]
        for name in sorted({*here, *earlier}):
            for key in SPENT:
                both = (getattr(accounts.get(name, NONE), key) for accounts in (here, earlier))
                setattr(self.account(name), key, _sum(*both))


def _accounts(commit: Mapping[str, Any] | None) -> dict[str, Account]:
    return {name: Account(**{"cost": None, **one}) for name, one in (commit or NOTHING)["accounts"].items()}


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
