"""Write the lines of the command, each in one piece: its processes can share a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ['say']


def say(text: str, file: TextIO | None) -> None:
    """Write lines in one piece.

    Those of other processes do not get between. With PYTHONUNBUFFERED, ``print`` writes the end of a line separately.
    Like ``print``, this writes nothing if the process was started without the file. Blocks while a pipe is full.

    :param text: one or more lines, without the last end of line.
    :param file: standard output or standard error; None if the process has none.
    """
    if file is not None:
        file.write(f'{text}\n')
        file.flush()
