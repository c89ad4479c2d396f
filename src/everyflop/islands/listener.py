"""Who is told what happens in a run with islands."""

from typing import Any, Protocol


class Listener(Protocol):
    """Who is told what happens: files, in the end."""

    def event(self, kind: str, **facts: Any) -> None:
        """Take note of something that happened."""
        ...

    def committed(self, record: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        """Take note of a commit, and of the steps of all islands that it holds."""
        ...

    def rewound(self, number: int) -> None:
        """Take note that the run goes on with this round: what came of it and of later ones is void."""
        ...
