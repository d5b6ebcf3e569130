"""Compression of messages: ``permessage-deflate`` (RFC 7692).

:class:`Deflate` has the options of a program. Both sides agree in the opening handshake on the parameters of a
connection, which are those of a :class:`MessageDeflate`. It is an extension of wsproto, and replaces wsproto's own one,
which decompresses without a limit: this one stops at the most bytes that a message can have.

The contexts of zlib are made when the first message is compressed or decompressed, because they need most of the memory
of a connection.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from geventnode.errors import InvalidInput, UnknownOption
from geventnode.options import count, flag, hint_for

__all__ = [
    'NAME',
    'Deflate',
    'DeflateOptions',
    'MalformedExtensions',
    'MessageDeflate',
    'accept_offer',
    'accept_response',
    'make_offer',
]

NAME = 'permessage-deflate'

#: The end of each compressed message, which is not sent (RFC 7692, section 7.2.1).
TAIL = b'\x00\x00\xff\xff'

#: A final block without data: a decompressor ends with it only if it is between two blocks.
FINAL_BLOCK = b'\x01\x00\x00\xff\xff'

#: The base-2 logarithm of the largest window, which each side has unless they agree on a smaller one.
MAX_BITS = 15

#: The most characters of ``Sec-WebSocket-Extensions``, which takes longer to parse than other fields.
MAX_FIELD = 1024

#: How often compressed data can end and begin anew within a frame; ordinary messages never do.
MAX_RESTARTS = 16

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_element = re.compile(rf'({_TOKEN})((?:[ \t]*;[ \t]*{_TOKEN}(?:[ \t]*=[ \t]*(?:{_TOKEN}|"{_TOKEN}"))?)*)[ \t]*')
_parameter = re.compile(rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*"?({_TOKEN})"?)?')
_bits = re.compile(r'[89]|1[0-5]')

_PARAMETERS = {
    'server_no_context_takeover',
    'client_no_context_takeover',
    'server_max_window_bits',
    'client_max_window_bits',
}


class MalformedExtensions(ValueError):
    """``Sec-WebSocket-Extensions`` is malformed (RFC 6455, section 9.1), or too long."""


class DeflateOptions(TypedDict, total=False):
    """The options of ``permessage-deflate``; see :class:`Deflate`."""

    #: 9 to 15: the base-2 logarithm of the window of the server's compressor. 12, which a client offers first; only a
    #: stated value is required of the server.
    server_max_window_bits: int
    #: The same for the client's compressor. 12.
    client_max_window_bits: int
    #: Whether the server begins each message with an empty window. False.
    server_no_context_takeover: bool
    #: Whether the client does. False.
    client_no_context_takeover: bool
    #: 0 to 9: the level of compression. 6.
    level: int
    #: 1 to 9: the memory of the own compressor. 5.
    memory_level: int
    #: Bytes; a shorter message is sent without compression. 64.
    minimum_size: int


class Deflate:
    """The checked options of ``permessage-deflate``; see RFC 7692, section 7.1.

    Smaller windows and a lower ``memory_level`` need less memory and compress less. A compressor needs ``2 **
    (window_bits + 2) + 2 ** (memory_level + 9)`` bytes, a decompressor ``2 ** window_bits`` and 8 KiB more. Without
    context takeover, they exist only while a message is sent or received.

    Raises ``UnknownOption``, ``InvalidInput`` for a value out of range, and ``TypeError``.
    """

    __slots__ = (
        'client_max_window_bits',
        'client_no_context_takeover',
        'level',
        'memory_level',
        'minimum_size',
        'server_max_window_bits',
        'server_no_context_takeover',
        'server_window_required',
    )

    def __init__(self, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in DeflateOptions.__annotations__:
                raise UnknownOption(
                    f'compression has no option {name!r}{hint_for(name, DeflateOptions.__annotations__)}'
                )
        value = options.get
        self.server_max_window_bits = _within('server_max_window_bits', value('server_max_window_bits', 12), 9, 15)
        #: Whether a client makes no second offer without that limit.
        self.server_window_required = 'server_max_window_bits' in options
        self.client_max_window_bits = _within('client_max_window_bits', value('client_max_window_bits', 12), 9, 15)
        self.server_no_context_takeover = flag('server_no_context_takeover', value('server_no_context_takeover', False))
        self.client_no_context_takeover = flag('client_no_context_takeover', value('client_no_context_takeover', False))
        self.level = _within('level', value('level', 6), 0, 9)
        self.memory_level = _within('memory_level', value('memory_level', 5), 1, 9)
        self.minimum_size = count('minimum_size', value('minimum_size', 64))

    def __repr__(self) -> str:
        values = ', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)
        return f'{type(self).__name__}({values})'


def _within(name: str, value: int, least: int, most: int) -> int:
    if not least <= count(name, value) <= most:
        raise InvalidInput(f'{name} must be from {least} to {most}, not {value}')
    return value


class _Agreed(NamedTuple):
    """The parameters of a connection."""

    server_bits: int
    client_bits: int
    server_resets: bool
    client_resets: bool


class MessageDeflate(Extension):
    """Compress and decompress the messages of one connection."""

    name = NAME

    def __init__(self, client: bool, options: Deflate, agreed: _Agreed) -> None:
        self._options = options
        if client:
            self._own_bits, self._own_resets = agreed.client_bits, agreed.client_resets
            self._peer_bits, self._peer_resets = agreed.server_bits, agreed.server_resets
        else:
            self._own_bits, self._own_resets = agreed.server_bits, agreed.server_resets
            self._peer_bits, self._peer_resets = agreed.client_bits, agreed.client_resets
        self._compressor: Any = None
        self._decompressor: Any = None
        #: Whether the present message is compressed, whether the present frame is a part of it, and whether the message
        #: has its first frame.
        self._message_compressed = self._frame_compressed = self._begun = False
        #: Whether the bytes of the present message so far end with a final block.
        self._final_block = False
        #: The bytes of the present message so far, and the most that it can have.
        self.size = self._limit = 0
        #: The reason of the last error, for a text.
        self.problem = ''

    def compress(self, payload: bytes) -> bytes | None:
        """Return ``payload`` compressed, None to send it as it is."""
        options = self._options
        if len(payload) < options.minimum_size:
            return None
        compressor = self._compressor
        if compressor is None:
            compressor = zlib.compressobj(options.level, zlib.DEFLATED, -self._own_bits, options.memory_level)
            if not self._own_resets:
                self._compressor = compressor
        compressed: bytes = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return compressed[: -len(TAIL)]

    def begin(self, limit: int) -> None:
        """Begin to receive a message of at most ``limit`` bytes."""
        self.size = 0
        self._limit = limit
        self._message_compressed = self._begun = self._final_block = False

    # -- called by wsproto --------------------------------------------------------------------------------------------

    def enabled(self) -> bool:
        """See :class:`wsproto.extensions.Extension`."""
        return True

    def offer(self) -> bool | str:
        """See :class:`wsproto.extensions.Extension`; the handshake is not wsproto's."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Check the bit that the first frame of a compressed message has.

        Source: RFC 7692, section 6.
        """
        if opcode.iscontrol() or opcode is Opcode.CONTINUATION:
            if rsv.rsv1:
                self.problem = 'the bit for compression in a frame that does not begin a message'
                return CloseReason.PROTOCOL_ERROR
        else:
            # wsproto finds a message within another one after this: its data is not decompressed
            self._message_compressed = rsv.rsv1 and not self._begun
            self._begun = True
        self._frame_compressed = self._message_compressed and not opcode.iscontrol()
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes | bytearray
    ) -> bytes | CloseReason:
        """Decompress a piece of a frame."""
        return self._decompress(bytes(data)) if self._frame_compressed else bytes(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """Check the end of a message."""
        return self._check_end() if fin and self._frame_compressed else None

    # -- decompressing ------------------------------------------------------------------------------------------------

    def decompress_message(self, payload: bytes) -> bytes | CloseReason:
        """Return the message of a payload, or the code of an error."""
        message = self._decompress(payload)
        return message if isinstance(message, CloseReason) else self._check_end() or message

    def _check_end(self) -> CloseReason | None:
        """Check that a message ends with a block.

        Otherwise a part of the message would look complete, and the rest of the block would belong to the next one.
        """
        if self._final_block:
            return None
        rest = self._decompress(TAIL)
        if isinstance(rest, CloseReason):
            return rest
        if rest or not self._is_between_blocks():
            return self._malformed('a compressed message ends within a block')
        return None

    def _is_between_blocks(self) -> bool:
        decompressor = self._decompressor
        if decompressor is None:
            return True
        if self._peer_resets:
            self._decompressor = None
        else:
            decompressor = decompressor.copy()
        try:
            return not decompressor.decompress(FINAL_BLOCK, 1) and decompressor.eof
        except zlib.error:
            return False

    def _malformed(self, problem: str) -> CloseReason:
        self.problem = problem
        return CloseReason.INVALID_FRAME_PAYLOAD_DATA

    def _decompress(self, data: bytes) -> bytes | CloseReason:
        if not data:
            return b''
        parts = []
        self._final_block = False
        for _ in range(MAX_RESTARTS):
            decompressor = self._decompressor
            if decompressor is None:
                decompressor = self._decompressor = zlib.decompressobj(-self._peer_bits)
            try:
                part = decompressor.decompress(data, min(self._limit + 1 - self.size, sys.maxsize))
            except zlib.error as error:
                return self._malformed(f'malformed compressed data: {error}')
            parts.append(part)
            self.size += len(part)
            if self.size > self._limit:
                self._decompressor = None
                return CloseReason.MESSAGE_TOO_BIG
            if not decompressor.eof:
                return b''.join(parts) if len(parts) > 1 else part
            # a final block (RFC 7692, section 7.2.3.4): the rest has a window of its own
            data = decompressor.unused_data
            self._decompressor = None
            if not data:
                self._final_block = True
                return b''.join(parts)
        return self._malformed('too many final blocks in a compressed message')


# -- the handshake ----------------------------------------------------------------------------------------------------


def _parse(field: str) -> Iterator[tuple[str, dict[str, str | None] | None]]:
    """Yield the name and the parameters of each extension in the field.

    The parameters are None if one is given twice. Empty elements are ignored (RFC 9110, section 5.6.1.2).
    """
    if len(field) > MAX_FIELD:
        raise MalformedExtensions(f'Sec-WebSocket-Extensions is longer than {MAX_FIELD} characters')
    position = 0
    while position < len(field):
        if field[position] in ' \t,':
            position += 1
            continue
        found = _element.match(field, position)
        if found is None:
            raise MalformedExtensions(f'Sec-WebSocket-Extensions is malformed at character {position}')
        pairs = _parameter.findall(found[2])
        yield (
            found[1].lower(),
            {name: value or None for name, value in pairs} if len({name for name, _ in pairs}) == len(pairs) else None,
        )
        position = found.end()
        if position < len(field) and field[position] != ',':
            raise MalformedExtensions(f'Sec-WebSocket-Extensions is malformed at character {position}')


def _are_valid(parameters: dict[str, str | None] | None, is_offer: bool) -> bool:
    """Return whether all parameters are known and valid (RFC 7692, section 7.1)."""
    if parameters is None or not parameters.keys() <= _PARAMETERS:
        return False
    for name, value in parameters.items():
        if name.endswith('takeover'):
            if value is not None:
                return False
        elif value is None:
            if name != 'client_max_window_bits' or not is_offer:
                return False
        elif not _bits.fullmatch(value):
            return False
    return True


def accept_offer(field: str, options: Deflate) -> tuple[str, MessageDeflate] | None:
    """Return the response to the offers of a client, and the extension.

    It is None if no offer can be accepted.

    :param field: ``Sec-WebSocket-Extensions`` of the request.

    Raises :class:`MalformedExtensions`.
    """
    for name, parameters in list(_parse(field)):
        if name != NAME or not _are_valid(parameters, True):
            continue
        assert parameters is not None
        server_bits = min(int(parameters.get('server_max_window_bits') or 15), options.server_max_window_bits)
        if server_bits < 9:
            # zlib has no such window
            continue
        agreed = _Agreed(
            server_bits,
            min(int(parameters['client_max_window_bits'] or 15), options.client_max_window_bits)
            if 'client_max_window_bits' in parameters
            else 15,
            options.server_no_context_takeover or 'server_no_context_takeover' in parameters,
            options.client_no_context_takeover or 'client_no_context_takeover' in parameters,
        )
        response = NAME
        if agreed.server_resets:
            response += '; server_no_context_takeover'
        if agreed.client_resets:
            response += '; client_no_context_takeover'
        if server_bits < 15 or 'server_max_window_bits' in parameters:
            response += f'; server_max_window_bits={server_bits}'
        if 'client_max_window_bits' in parameters:
            response += f'; client_max_window_bits={agreed.client_bits}'
        # a window of 8 bits is one of 9 for zlib
        return response, MessageDeflate(False, options, agreed._replace(client_bits=max(agreed.client_bits, 9)))
    return None


def make_offer(options: Deflate) -> str:
    """Return ``Sec-WebSocket-Extensions`` of a client.

    A server that responds with a constant text accepts no limit of its window. So there is a second offer without it
    (RFC 7692, section 7.1.2.1), unless the program requires the limit.
    """
    wanted = f'{NAME}; client_max_window_bits'
    resets = ''
    if options.server_no_context_takeover:
        resets += '; server_no_context_takeover'
    if options.client_no_context_takeover:
        resets += '; client_no_context_takeover'
    if options.server_max_window_bits == MAX_BITS:
        return f'{wanted}{resets}'
    first = f'{wanted}; server_max_window_bits={options.server_max_window_bits}{resets}'
    return first if options.server_window_required else f'{first}, {wanted}{resets}'


def accept_response(field: str, options: Deflate | None) -> MessageDeflate | None:
    """Return the extension in the response of a server, if any.

    :param options: those of the offer; None if there was none.

    Raises ``ValueError`` if the client has not offered it (RFC 7692, section 5.1).
    """
    found = list(_parse(field))
    if not found:
        return None
    if options is None or len(found) != 1 or found[0][0] != NAME:
        raise ValueError(f'the server has accepted extensions that were not offered: {field}')
    parameters = found[0][1]
    if not _are_valid(parameters, False):
        raise ValueError(f'the server has accepted {NAME} with invalid parameters: {field}')
    assert parameters is not None
    server_bits = int(parameters.get('server_max_window_bits') or MAX_BITS)
    limit = options.server_max_window_bits if options.server_window_required else MAX_BITS
    if server_bits > limit or (options.server_no_context_takeover and 'server_no_context_takeover' not in parameters):
        raise ValueError(f'the server has not accepted the offered limits of {NAME}: {field}')
    client_bits = min(int(parameters.get('client_max_window_bits') or 15), options.client_max_window_bits)
    if client_bits < 9:
        raise ValueError(f'the server requires a window of 8 bits, which zlib does not have: {field}')
    return MessageDeflate(
        True,
        options,
        _Agreed(
            max(server_bits, 9),
            client_bits,
            'server_no_context_takeover' in parameters,
            options.client_no_context_takeover or 'client_no_context_takeover' in parameters,
        ),
    )
