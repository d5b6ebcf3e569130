"""The contract of every event emitter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Attribute, Interface

__all__ = ['IEventEmitter']

Listener = Callable[..., object]


class IEventEmitter(Interface):
    """Named events and their listeners; see :class:`geventnode.events.EventEmitter`.

    Events: ``'newListener'`` (event, listener) before a listener is added, ``'removeListener'`` (event, listener) after
    one was removed.
    """

    events: frozenset[str] = Attribute('The events that the class itself emits.')

    def on(event: str, listener: Listener | None = None) -> Any:
        """Add a listener; see :meth:`geventnode.events.EventEmitter.on`."""

    def add_listener(event: str, listener: Listener) -> Any:
        """Add a listener; see :meth:`geventnode.events.EventEmitter.add_listener`."""

    def prepend_listener(event: str, listener: Listener) -> Any:
        """Add a listener before all others; see :meth:`geventnode.events.EventEmitter.prepend_listener`."""

    def once(event: str, listener: Listener | None = None) -> Any:
        """Add a listener for one call; see :meth:`geventnode.events.EventEmitter.once`."""

    def remove_listener(event: str, listener: Listener) -> Any:
        """Remove a listener; see :meth:`geventnode.events.EventEmitter.remove_listener`."""

    def remove_all_listeners(event: str | None = None) -> Any:
        """Remove all listeners; see :meth:`geventnode.events.EventEmitter.remove_all_listeners`."""

    def listeners(event: str) -> list[Listener]:
        """Return the listeners of an event; see :meth:`geventnode.events.EventEmitter.listeners`."""

    def listener_count(event: str) -> int:
        """Return the number of listeners; see :meth:`geventnode.events.EventEmitter.listener_count`."""

    def event_names() -> list[str]:
        """Return the events with listeners; see :meth:`geventnode.events.EventEmitter.event_names`."""

    def emit(event: str, *args: Any) -> bool:
        """Call the listeners of an event; see :meth:`geventnode.events.EventEmitter.emit`."""

    def set_max_listeners(count: int) -> Any:
        """Set the limit of the leak warning; see :meth:`geventnode.events.EventEmitter.set_max_listeners`."""
