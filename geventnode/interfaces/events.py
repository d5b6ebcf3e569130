"""The contract of everything that emits events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Attribute, Interface

__all__ = ['IEventEmitter']

Listener = Callable[..., object]


class IEventEmitter(Interface):
    """Named events and the functions that want to hear of them (Node's ``EventEmitter``).

    A listener runs in the greenlet that emits, never in the hub, and may block cooperatively. Event names are exactly
    Node's strings; a declared name in another spelling (``'check_continue'``), or one that is close to it
    (``'requests'``), raises ``ValueError`` and names the right one; any other name is the user's own. A subclass that
    declares a close one itself, in ``events``, has it.

    Events: ``'newListener'`` (event, listener) before a listener is added, ``'removeListener'`` (event, listener) after
    one was removed.
    """

    events: frozenset[str] = Attribute('The names that the class itself emits.')

    def on(event: str, listener: Listener | None = None) -> Any:
        """Add ``listener`` to the end of the list for ``event``; return the emitter. Never switches, but for
        ``'newListener'`` listeners that do.

        Without ``listener`` it is a decorator: ``@server.on('request')``.
        Raises ``TypeError`` for a listener that cannot be called, ``ValueError`` for a misspelt declared event.
        """

    def add_listener(event: str, listener: Listener) -> Any:
        """The same as :meth:`on` with a listener."""

    def prepend_listener(event: str, listener: Listener) -> Any:
        """As :meth:`on`, but at the head of the list."""

    def once(event: str, listener: Listener | None = None) -> Any:
        """As :meth:`on`, but the listener is removed before it is called for the first time."""

    def remove_listener(event: str, listener: Listener) -> Any:
        """Remove the last addition of ``listener``, if there is one; return the emitter. Never switches, but for
        ``'removeListener'`` listeners that do."""

    def remove_all_listeners(event: str | None = None) -> Any:
        """Remove the listeners of ``event``, or of all events, as :meth:`remove_listener` does; return the emitter."""

    def listeners(event: str) -> list[Listener]:
        """Return a copy of the list for ``event``, with the functions as they were handed in."""

    def listener_count(event: str) -> int:
        """Return how many listeners ``event`` has."""

    def event_names() -> list[str]:
        """Return the events that have listeners, in the order of their first listener."""

    def emit(event: str, *args: Any) -> bool:
        """Call the listeners of ``event`` with ``args``, in order; return whether there was one. Switches when they do.

        Listeners added or removed meanwhile do not change this round. The first one that raises ends it, and its
        exception leaves ``emit``. ``'error'`` without a listener raises its argument (``UnhandledError`` when that is
        no exception).
        """

    def set_max_listeners(count: int) -> Any:
        """Warn (``MaxListenersExceededWarning``, once an event) when an event has more than ``count`` listeners; 0
        never warns; the default is 10. Return the emitter."""
