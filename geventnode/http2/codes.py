"""The error codes of HTTP/2 (RFC 9113, section 7)."""

from __future__ import annotations

import enum

__all__ = ['ErrorCode', 'code_name']


class ErrorCode(enum.IntEnum):
    """The reason in a RST_STREAM or GOAWAY frame."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


def code_name(code: int) -> str:
    """Return the name of an error code, or its number."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f'0x{code:x}'
