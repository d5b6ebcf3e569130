"""Emitting, inspecting and the warning about many listeners."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from geventnode.errors import MaxListenersExceededWarning, UnhandledError
from geventnode.events import EventEmitter
from tests.emitters import note


def test_listeners_is_a_copy_with_the_original_functions(emitter: EventEmitter) -> None:
    emitter.on('open', print).once('open', repr)
    found = emitter.listeners('open')
    assert found == [print, repr]
    found.clear()
    assert emitter.listener_count('open') == 2


def test_a_new_emitter_has_no_listeners(emitter: EventEmitter) -> None:
    assert (emitter.listeners('open'), emitter.listener_count('open'), emitter.event_names()) == ([], 0, [])


def test_event_names_are_in_the_order_of_the_first_listener(emitter: EventEmitter) -> None:
    for event in ('b', 'a', 'b', 'c'):
        emitter.on(event, print)
    assert emitter.event_names() == ['b', 'a', 'c']


def test_two_emitters_share_nothing() -> None:
    first, second = EventEmitter(), EventEmitter()
    first.on('open', print).set_max_listeners(3)
    assert second.event_names() == []


# -- emitting ---------------------------------------------------------------------------------------------------------


def test_emit_without_a_listener_returns_false(emitter: EventEmitter) -> None:
    assert emitter.emit('open') is False
    assert emitter.on('shut', print).emit('open') is False


def test_a_listener_added_by_a_listener_is_not_called_in_this_round(emitter: EventEmitter, calls: list[Any]) -> None:
    def add() -> None:
        calls.append('add')
        emitter.on('open', lambda: calls.append('late'))

    emitter.on('open', add)
    emitter.emit('open')
    assert calls == ['add']
    emitter.emit('open')
    assert calls == ['add', 'add', 'late']


def test_a_listener_removed_by_a_listener_is_called_in_this_round(emitter: EventEmitter, calls: list[Any]) -> None:
    late = note(calls, 'late')
    emitter.on('open', lambda: emitter.remove_listener('open', late)).on('open', late)
    emitter.emit('open')
    emitter.emit('open')
    assert calls == [('late',)]


def test_removing_all_listeners_does_not_change_the_round(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('open', lambda: emitter.remove_all_listeners()).on('open', note(calls, 'late'))
    assert emitter.emit('open') is True
    assert calls == [('late',)]


def test_the_first_exception_ends_the_round(emitter: EventEmitter, calls: list[Any]) -> None:
    error = KeyError('x')

    def fail() -> None:
        raise error

    emitter.on('open', fail).on('open', note(calls, 'late'))
    with pytest.raises(KeyError) as caught:
        emitter.emit('open')
    assert caught.value is error
    assert calls == []


def test_error_without_a_listener_raises_its_own_exception(emitter: EventEmitter) -> None:
    error = KeyError('x')
    with pytest.raises(KeyError) as caught:
        emitter.emit('error', error)
    assert caught.value is error


def test_error_without_an_exception_raises_unhandled_error(emitter: EventEmitter) -> None:
    with pytest.raises(UnhandledError, match="'oops'"):
        emitter.emit('error', 'oops')
    with pytest.raises(UnhandledError, match='None'):
        emitter.emit('error')


def test_error_with_a_listener_is_not_raised(emitter: EventEmitter, calls: list[Any]) -> None:
    error = KeyError('x')
    assert emitter.on('error', note(calls, 'error')).emit('error', error) is True
    assert calls == [('error', error)]


def test_error_after_its_listener_was_removed_raises_again(emitter: EventEmitter) -> None:
    emitter.on('error', print).remove_listener('error', print)
    with pytest.raises(KeyError):
        emitter.emit('error', KeyError('x'))


# -- many listeners ---------------------------------------------------------------------------------------------------


def _add(emitter: EventEmitter, count: int, event: str = 'open') -> list[str]:
    """Add ``count`` listeners and return the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for _ in range(count):
            emitter.on(event, print)
    assert all(each.category is MaxListenersExceededWarning for each in caught)
    assert all(each.filename == __file__ for each in caught)
    return [str(each.message) for each in caught]


def test_ten_listeners_do_not_warn(emitter: EventEmitter) -> None:
    assert _add(emitter, 10) == []


def test_more_than_ten_listeners_warn_once_for_each_event(emitter: EventEmitter) -> None:
    assert len(_add(emitter, 30)) == 1
    assert len(_add(emitter, 11, 'shut')) == 1
    assert _add(emitter, 1) == []


def test_the_warning_names_event_and_emitter(emitter: EventEmitter) -> None:
    [message] = _add(emitter, 11)
    assert "11 listeners for 'open'" in message
    assert repr(emitter) in message


def test_set_max_listeners_raises_the_limit(emitter: EventEmitter) -> None:
    assert emitter.set_max_listeners(12) is emitter
    assert _add(emitter, 12) == []
    assert len(_add(emitter, 1)) == 1


def test_zero_never_warns(emitter: EventEmitter) -> None:
    assert _add(emitter.set_max_listeners(0), 100) == []


def test_one_listener_can_be_the_limit(emitter: EventEmitter) -> None:
    emitter.set_max_listeners(1)
    assert len(_add(emitter, 2)) == 1


def test_a_negative_limit_is_rejected(emitter: EventEmitter) -> None:
    with pytest.raises(ValueError, match='-1'):
        emitter.set_max_listeners(-1)


def test_a_warning_as_an_error_keeps_the_listener(emitter: EventEmitter) -> None:
    emitter.set_max_listeners(1).on('open', print)
    with pytest.raises(MaxListenersExceededWarning):
        emitter.on('open', repr)
    assert emitter.listeners('open') == [print, repr]


# -- blocking ---------------------------------------------------------------------------------------------------------


def test_the_emitter_does_not_block(emitter: EventEmitter, no_switch: Callable[[], Any]) -> None:
    with no_switch():
        emitter.on('open', str).once('open', repr).prepend_listener('open', len)
        emitter.set_max_listeners(3)
        emitter.listeners('open')
        emitter.listener_count('open')
        emitter.event_names()
        emitter.emit('open', 'x')
        emitter.remove_listener('open', str).remove_all_listeners()
