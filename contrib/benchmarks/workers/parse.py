"""Parse requests in memory with several parsers in turn, and print requests per second as one line of JSON.

    python parse.py KIND REPEAT REQUESTS PARSER...

``KIND`` is ``same`` for the same bytes each time, ``other`` for another cookie each time, and ``unseen`` for a request
with a path, a query, a cookie and an id of its own.

A parser is a function that takes complete requests and a flag. For each request it finds method, target, version,
fields and persistence; with the flag it also looks a field up in a map by lower-case name. Maps keep each library's own
type of text. One parser serves a connection of several requests, except for h11, which needs a response before the next
one: its connections are made before the clock starts.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.requests import FIRST_ITEM, browser_request, item_request

__all__ = ['PARSERS', 'geventnode_parser', 'h11_parser', 'httptools_parser']


#: Requests in a batch, few enough that most batches are undisturbed on a busy machine.
BATCH = 20
Prepared = Callable[[], None]


def geventnode_parser(requests: Sequence[bytes], read_map: bool) -> Prepared:
    """Prepare a run with this package's parser."""
    from geventnode.protocol import Framing, Limits, Parser, RequestHead, Role

    parser = Parser(Role.REQUEST, Limits())

    def run() -> None:
        for data in requests:
            parser.feed(data)
            head = parser.next_event()
            # the head is the whole message
            if not isinstance(head, RequestHead) or head.framing is not Framing.NONE:
                raise ValueError('a request did not end')
            if read_map:
                head.headers['user-agent']

    return run


def h11_parser(requests: Sequence[bytes], read_map: bool) -> Prepared:
    """Prepare a run with h11."""
    import h11

    connections = [h11.Connection(h11.SERVER) for _ in requests]

    def run() -> None:
        for connection, data in zip(connections, requests, strict=True):
            connection.receive_data(data)
            head: Any = connection.next_event()
            if read_map:
                dict(head.headers)[b'user-agent']
            while type(connection.next_event()) is not h11.EndOfMessage:
                pass

    return run


class HttptoolsMessages:
    """Collects the parts of messages from httptools, as a server's protocol object does."""

    def __init__(self) -> None:
        import httptools

        self.parser = httptools.HttpRequestParser(self)
        self.complete = False

    def on_message_begin(self) -> None:
        """Begin a message."""
        self.url = b''
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        """Add a piece of the target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a field."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Read the rest of the head that a server needs."""
        self.head = self.parser.get_method(), self.parser.get_http_version(), self.parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """End a message."""
        self.complete = True


def httptools_parser(requests: Sequence[bytes], read_map: bool) -> Prepared:
    """Prepare a run with httptools."""
    messages = HttptoolsMessages()

    def run() -> None:
        feed = messages.parser.feed_data
        for data in requests:
            feed(data)
            if not messages.complete:
                raise ValueError('a request did not end')
            if read_map:
                dict(messages.headers)[b'user-agent']

    return run


PARSERS: dict[str, Callable[[Sequence[bytes], bool], Prepared]] = {
    'geventnode': geventnode_parser,
    'h11': h11_parser,
    'httptools': httptools_parser,
}


KINDS: dict[str, Callable[[int], bytes]] = {
    'same': lambda number: browser_request(),
    'other': browser_request,
    'unseen': lambda number: item_request(FIRST_ITEM + number),
}
#: Whether only the head is parsed, or a field looked up as well.
PARTS = {'same': ('head', 'map'), 'other': ('head', 'map'), 'unseen': ('map',)}


def rate(name: str, requests: Sequence[bytes], read_map: bool) -> float:
    """Return the requests parsed per second: the median of short batches, most of them undisturbed."""
    batches = [requests[start : start + BATCH] for start in range(0, len(requests), BATCH)]
    seconds = []
    gc.collect()
    for batch in batches:
        run = PARSERS[name](batch, read_map)
        started = time.perf_counter()
        run()
        seconds.append((time.perf_counter() - started) / len(batch))
    return 1 / statistics.median(seconds)


def main() -> None:
    """Measure; the first round only warms up."""
    kind, repeat, count, names = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    found: dict[str, dict[str, list[Any]]] = {name: {} for name in names}
    for repetition in range(repeat + 1):
        # other requests in every round, or the second round would find all of them in caches
        requests = [KINDS[kind](repetition * count + index) for index in range(count)]
        for part in PARTS[kind]:
            for name in names:
                measured = rate(name, requests, part == 'map')
                if repetition:
                    found[name].setdefault(part, []).append(measured)
    print(json.dumps(found))


if __name__ == '__main__':
    main()
