"""The numbers of a full run, of a rough one, and of one that only tests the program."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['FULL', 'QUICK', 'TINY', 'Scale']


@dataclass(frozen=True)
class Scale:
    """The numbers of one run.

    :ivar warm_up: seconds of load before the first turn.
    :ivar repeat: interleaved repetitions.
    :ivar seconds: the duration of a turn of the load, or of watching an exhausted server; wrk accepts whole ones only.
    :ivar heads: clients that send a head slowly.
    :ivar readers: clients that read a download slowly.
    :ivar resets: connections opened and reset.
    :ivar memory_turns: parts of the requests of the memory's part, each by another process; an even number.
    :ivar aborted: aborted requests.
    :ivar normal: normal requests.
    :ivar stalls: TLS handshakes that stall at once.
    :ivar bodies: bodies that are streamed through a proxy.
    """

    warm_up: int
    repeat: int
    seconds: int
    heads: int
    readers: int
    resets: int
    memory_turns: int
    aborted: int
    normal: int
    stalls: int
    bodies: int


FULL = Scale(
    warm_up=1,
    repeat=5,
    seconds=3,
    heads=5_000,
    readers=500,
    resets=10_000,
    memory_turns=10,
    aborted=100_000,
    normal=1_000_000,
    stalls=1_000,
    bodies=1_000,
)
QUICK = Scale(
    warm_up=1,
    repeat=3,
    seconds=1,
    heads=1_000,
    readers=100,
    resets=1_800,
    memory_turns=10,
    aborted=6_000,
    normal=64_000,
    stalls=200,
    bodies=180,
)
TINY = Scale(
    warm_up=0,
    repeat=1,
    seconds=1,
    heads=60,
    readers=6,
    resets=120,
    memory_turns=2,
    aborted=120,
    normal=640,
    stalls=20,
    bodies=27,
)
