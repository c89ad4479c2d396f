"""A checksum of what travels and of what islands agreed on: fast, and made to find faults, not forgers.

Every exchange reads each update five times only for this, and six where it is gradients: an island's update and the
merged one at both ends, the new anchor, and of gradients what was agreed. XXH3 takes a sixth of the time of CRC-32 for
it, 3.6 and 21 ms for 40 MB on the development machine, and other threads run meanwhile.
"""

import xxhash

from everyflop.islands.codec import Payload


def checksum(*parts: Payload) -> str:
    """Return 16 hex digits of XXH3 of the parts' bytes, one part after the other."""
    state = xxhash.xxh3_64()
    for part in parts:
        state.update(part)
    return state.hexdigest()
