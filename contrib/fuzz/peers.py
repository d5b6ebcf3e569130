"""HTTP implementations that parse the same bytes: geventnode, h11 and Node.

A stream of requests is read until it ends, as a server does. Of the responses to a request, only the final one is
compared, which ends the exchange. The result is a :class:`Verdict`: the complete messages and the error after them.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h11

from geventnode.protocol import Limits, Role
from tests.corpus.drive import Message, drive

__all__ = ['H11', 'Context', 'Geventnode', 'Node', 'ParsedMessage', 'Peer', 'Verdict']

NODE_PEER = Path(__file__).with_name('node_peer.js')
LIMIT = 16384
_METHOD = re.compile('that [^ ]+ allows')


@dataclass(frozen=True)
class Context:
    """The kind of message, ``'request'`` or ``'response'``, and for a response the method of its request, GET or HEAD.

    CONNECT is left out: Node passes the connection to its listener for every response.
    """

    kind: str
    method: str = 'GET'
    upgrade: bool = False


@dataclass(frozen=True)
class ParsedMessage:
    """A complete message, with field names in lower case and values without blanks around them."""

    start: tuple[Any, ...]
    version: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    trailers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Verdict:
    """All complete messages, and the error after them; None if there is none."""

    messages: tuple[ParsedMessage, ...]
    error: str | None


class Peer(Protocol):
    """An implementation."""

    name: str

    def judge(self, data: bytes, context: Context) -> Verdict:
        """Parse ``data``, which is the whole input."""


class Geventnode:
    """This project's parser."""

    name = 'geventnode'

    def judge(self, data: bytes, context: Context) -> Verdict:
        response = context.kind == 'response'
        outcome = drive(
            [data],
            Role(context.kind),
            Limits(max_header_size=LIMIT),
            eof=True,
            method=context.method,
            upgrade=context.upgrade,
            most=1 if response else None,
        )
        messages = [
            _of_geventnode(message)
            for message in outcome.messages
            if message.complete or message.start[0] in ('CONNECT', 101)
        ]
        if response:
            messages = [message for message in messages if message.start[0] >= 200 or message.start[0] == 101]
            return Verdict(tuple(messages), None if messages else _reason(outcome.error))
        return Verdict(tuple(messages), _reason(outcome.error))


def _reason(error: tuple[Any, ...] | None) -> str | None:
    """Return the reason of an error, without the bytes that it quotes."""
    return None if error is None else _METHOD.sub(r'that a method allows', str(error[4]).partition(': ')[0])


def _of_geventnode(message: Message) -> ParsedMessage:
    return ParsedMessage(
        message.start, message.version, _fields(message.headers), message.body, _fields(message.trailers)
    )


def _fields(pairs: Any) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in pairs)


class H11:
    """h11, as its server or its client."""

    name = 'h11'

    def judge(self, data: bytes, context: Context) -> Verdict:
        messages: list[ParsedMessage] = []
        try:
            if context.kind == 'request':
                self._requests(data, messages)
            else:
                self._response(data, context, messages)
        except h11.RemoteProtocolError as error:
            return Verdict(tuple(messages), str(error).partition(':')[0].partition(' (')[0])
        return Verdict(tuple(messages), None)

    def _requests(self, data: bytes, messages: list[ParsedMessage]) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)
        connection.receive_data(data)
        connection.receive_data(b'')
        while (seen := _next_of_h11(connection, h11.Request)) is not None:
            messages.append(seen)
            if seen.start[0] == 'CONNECT':
                return
            connection.send(h11.Response(status_code=200, headers=[('Content-Length', '0')]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    def _response(self, data: bytes, context: Context, messages: list[ParsedMessage]) -> None:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMIT)
        headers = [('Host', 'a')]
        if context.upgrade:
            headers += [('Connection', 'Upgrade'), ('Upgrade', 'x')]
        connection.send(h11.Request(method=context.method, target='/', headers=headers))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        connection.receive_data(b'')
        seen = _next_of_h11(connection, h11.Response)
        if seen is not None:
            messages.append(seen)


def _next_of_h11(connection: h11.Connection, kind: Any) -> ParsedMessage | None:
    """Return the next message; None at the end."""
    head = None
    body = b''
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request) and event.method == b'CONNECT':
            # the bytes that h11 would read as content belong to the tunnel (RFC 9110, section 9.3.6)
            return _of_h11(event, b'', ())
        if isinstance(event, kind) or (isinstance(event, h11.InformationalResponse) and event.status_code == 101):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return _of_h11(head, body, event.headers)
        elif event is h11.PAUSED or event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
            # another protocol follows, or the stream has ended
            return None if head is None else _of_h11(head, body, ())


def _of_h11(head: Any, body: bytes, trailers: Any) -> ParsedMessage:
    if isinstance(head, h11.Request):
        start: tuple[Any, ...] = head.method.decode('latin-1'), head.target.decode('latin-1')
    else:
        start = head.status_code, head.reason.decode('latin-1')
    return ParsedMessage(start, head.http_version.decode('ascii'), _decoded(head.headers), body, _decoded(trailers))


def _decoded(pairs: Any) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode('latin-1'), value.decode('latin-1')) for name, value in pairs)


class Node:
    """Node's http, in a process that runs until :meth:`close`."""

    name = 'Node'

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ['node', str(NODE_PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding='utf-8'
        )

    def judge(self, data: bytes, context: Context) -> Verdict:
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        pipe.write(
            json.dumps(
                {
                    'kind': context.kind,
                    'method': context.method,
                    'upgrade': context.upgrade,
                    'data': base64.b64encode(data).decode('ascii'),
                }
            )
            + '\n'
        )
        pipe.flush()
        found = json.loads(answers.readline())
        return Verdict(tuple(_of_node(message) for message in found['messages']), found['error'])

    def close(self) -> None:
        """End the process."""
        with self._process as process:
            process.kill()


def _of_node(message: dict[str, Any]) -> ParsedMessage:
    return ParsedMessage(
        tuple(message['start']),
        message['version'],
        _paired(message['headers']),
        base64.b64decode(message['body']),
        _paired(message['trailers']),
    )


def _paired(flat: list[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value) for name, value in zip(flat[::2], flat[1::2], strict=True))
