"""How many sequences of a batch each island takes: in proportion to its speed, one at least while they last."""

from collections.abc import Mapping


def batch_shares(speeds: Mapping[str, float], sequences: int) -> dict[str, int]:
    """Share `sequences` out over islands by speed (any unit); the shares add up to `sequences`.

    The slowest first get their floor of one; the rest goes by the largest remainder, ties by name, so that equal
    input gives equal shares everywhere. With fewer sequences than islands the fastest get one each.
    """
    names = sorted(speeds, key=lambda name: (-speeds[name], name))
    if sequences <= len(names):
        return {name: int(place < sequences) for place, name in enumerate(names)}
    total = sum(speeds.values())
    ideal = {name: sequences * speeds[name] / total for name in names}
    shares = {name: max(1, int(ideal[name])) for name in names}
    while sum(shares.values()) < sequences:
        behind = max(names, key=lambda name: (ideal[name] - shares[name], name))
        shares[behind] += 1
    while sum(shares.values()) > sequences:  # floors of one made it too many
        ahead = max((n for n in names if shares[n] > 1), key=lambda name: (shares[name] - ideal[name], name))
        shares[ahead] -= 1
    return shares
