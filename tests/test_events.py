"""Adding and removing listeners, for each sentence of the docstrings of ``EventEmitter``."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import gevent
import pytest
from gevent.event import Event

from geventnode import http, https, net, stream, tls
from geventnode.events import EventEmitter
from tests.emitters import Door, note

# -- adding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('method', ['on', 'add_listener', 'prepend_listener', 'once'])
def test_adding_returns_the_emitter(emitter: EventEmitter, method: str) -> None:
    assert getattr(emitter, method)('open', print) is emitter


def test_listeners_are_called_in_order_with_the_arguments(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('open', note(calls, 'a')).add_listener('open', note(calls, 'b'))
    assert emitter.emit('open', 1, 2) is True
    assert calls == [('a', 1, 2), ('b', 1, 2)]


def test_prepended_listeners_are_called_first(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('open', note(calls, 'a')).prepend_listener('open', note(calls, 'b'))
    emitter.emit('open')
    assert calls == [('b',), ('a',)]


def test_a_listener_added_twice_is_called_twice(emitter: EventEmitter, calls: list[Any]) -> None:
    listener = note(calls, 'a')
    emitter.on('open', listener).on('open', listener).emit('open')
    assert calls == [('a',), ('a',)]


@pytest.mark.parametrize('method', ['on', 'add_listener', 'prepend_listener', 'once'])
def test_a_listener_must_be_callable(emitter: EventEmitter, method: str) -> None:
    with pytest.raises(TypeError, match="'open' must be callable, not int"):
        getattr(emitter, method)('open', 7)
    assert emitter.event_names() == []


@pytest.mark.parametrize('method', ['add_listener', 'prepend_listener'])
def test_only_on_and_once_are_decorators(emitter: EventEmitter, method: str) -> None:
    with pytest.raises(TypeError):
        getattr(emitter, method)('open', None)


def test_on_as_a_decorator_returns_the_function(emitter: EventEmitter, calls: list[Any]) -> None:
    listener = note(calls, 'a')
    assert emitter.on('open')(listener) is listener
    emitter.emit('open', 1)
    emitter.emit('open', 2)
    assert calls == [('a', 1), ('a', 2)]


def test_once_as_a_decorator(emitter: EventEmitter, calls: list[Any]) -> None:
    listener = note(calls, 'a')
    assert emitter.once('open')(listener) is listener
    emitter.emit('open', 1)
    emitter.emit('open', 2)
    assert calls == [('a', 1)]


@pytest.mark.parametrize('method', ['on', 'once'])
def test_a_decorator_rejects_a_misspelled_event_at_once(method: str) -> None:
    with pytest.raises(ValueError, match='checkContinue'):
        getattr(Door(), method)('check_continue')


@pytest.mark.parametrize(
    'spelling',
    ['check_continue', 'checkcontinue', 'CheckContinue', 'check-continue', 'check continue', 'CHECK_CONTINUE'],
)
@pytest.mark.parametrize('method', ['on', 'add_listener', 'prepend_listener', 'once'])
def test_a_misspelled_event_names_the_right_one(method: str, spelling: str) -> None:
    with pytest.raises(ValueError, match=r"Door has no event .* it is spelt 'checkContinue'"):
        getattr(Door(), method)(spelling, print)


@pytest.mark.parametrize('spelling', ['new_listener', 'remove_listener', 'NewListener'])
def test_the_events_of_the_emitter_are_declared_too(emitter: EventEmitter, spelling: str) -> None:
    with pytest.raises(ValueError, match='Listener'):
        emitter.on(spelling, print)
    with pytest.raises(ValueError, match='Listener'):
        Door().on(spelling, print)


@pytest.mark.parametrize(
    ('spelling', 'right'),
    [
        ('checkContinu', 'checkContinue'),
        ('chekContinue', 'checkContinue'),
        ('check_continues', 'checkContinue'),
        ('onCheckContinue', 'checkContinue'),
        ('opened', 'open'),
        ('opens', 'open'),
        ('on_open', 'open'),
        ('onopen', 'open'),
        ('newListeners', 'newListener'),
    ],
)
@pytest.mark.parametrize('method', ['on', 'add_listener', 'prepend_listener', 'once'])
def test_an_event_similar_to_a_declared_one_is_rejected(method: str, spelling: str, right: str) -> None:
    message = (
        f"Door has no event {spelling!r}: did you mean {right!r}? One of your own can be added to 'events' of a "
        'subclass'
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(Door(), method)(spelling, print)


@pytest.mark.parametrize('name', ['reopen', 'opening', 'operator', 'pen', 'continue', 'check', 'listener', 'o', ''])
def test_an_event_without_similarity_is_allowed(name: str, calls: list[Any]) -> None:
    Door().on(name, note(calls, 'a')).emit(name)
    assert calls == [('a',)]


def test_a_similar_event_can_be_declared(calls: list[Any]) -> None:
    class Gate(Door):
        events: ClassVar[frozenset[str]] = Door.events | {'opened'}

    Gate().on('opened', note(calls, 'a')).emit('opened')
    assert calls == [('a',)]


@pytest.mark.parametrize(
    ('kind', 'name', 'right'),
    [
        (http.Server, 'requests', 'request'),
        (http.IncomingMessage, 'ended', 'end'),
        (http.ClientRequest, 'reponse', 'response'),
        (http.ServerResponse, 'finished', 'finish'),
        (net.Server, 'connect', 'connection'),
    ],
)
def test_usual_misspellings(kind: type[EventEmitter], name: str, right: str) -> None:
    with pytest.raises(ValueError, match=f'did you mean {right!r}'):
        kind._check_event(kind.__new__(kind), name)


@pytest.mark.parametrize(
    'kind',
    [
        http.Server,
        https.Server,
        net.Server,
        net.Socket,
        tls.TLSSocket,
        http.IncomingMessage,
        http.ServerResponse,
        http.ClientRequest,
        stream.Duplex,
    ],
)
def test_declared_events_are_not_misspellings_of_each_other(kind: type[EventEmitter]) -> None:
    for name in kind.events:
        kind._check_event(kind.__new__(kind), name)


def test_other_names_are_allowed(calls: list[Any]) -> None:
    Door().on('my_event', note(calls, 'a')).emit('my_event')
    assert calls == [('a',)]


def test_an_event_of_a_parent_class_is_declared_in_the_child() -> None:
    class Gate(Door):
        events: ClassVar[frozenset[str]] = Door.events | {'shutDown'}

    for name in ('check_continue', 'shut_down'):
        with pytest.raises(ValueError, match='it is spelt'):
            Gate().on(name, print)


# -- once -------------------------------------------------------------------------------------------------------------


def test_once_is_called_once(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.once('open', note(calls, 'a'))
    assert (emitter.emit('open', 1), emitter.emit('open', 2)) == (True, False)
    assert calls == [('a', 1)]


def test_once_is_removed_before_it_is_called(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.once('open', lambda: calls.append(emitter.listener_count('open')))
    emitter.emit('open')
    assert calls == [0]


def test_a_once_listener_that_raises_is_removed(emitter: EventEmitter) -> None:
    def fail() -> None:
        raise KeyError

    emitter.once('open', fail)
    with pytest.raises(KeyError):
        emitter.emit('open')
    assert emitter.listener_count('open') == 0


def test_once_is_called_once_when_a_listener_emits_the_same_event(emitter: EventEmitter, calls: list[Any]) -> None:
    def again(depth: int) -> None:
        if depth:
            emitter.emit('open', depth - 1)

    emitter.on('open', again).once('open', note(calls, 'a'))
    emitter.emit('open', 1)
    assert calls == [('a', 0)]


def test_once_is_called_once_when_two_greenlets_emit(emitter: EventEmitter, calls: list[Any]) -> None:
    gate = Event()
    emitter.on('open', lambda *args: gate.wait())
    emitter.once('open', note(calls, 'a'))
    emitting = [gevent.spawn(emitter.emit, 'open') for _ in range(2)]
    gevent.idle()
    gate.set()
    gevent.joinall(emitting, raise_error=True)
    assert calls == [('a',)]


def test_once_twice_with_one_function(emitter: EventEmitter, calls: list[Any]) -> None:
    listener = note(calls, 'a')
    emitter.once('open', listener).once('open', listener)
    emitter.emit('open')
    assert calls == [('a',), ('a',)]
    assert emitter.listener_count('open') == 0


# -- removing ---------------------------------------------------------------------------------------------------------


def test_remove_listener_returns_the_emitter(emitter: EventEmitter) -> None:
    assert emitter.remove_listener('open', print) is emitter
    assert emitter.on('open', print).remove_listener('open', print) is emitter


def test_remove_listener_removes_the_last_addition(emitter: EventEmitter, calls: list[Any]) -> None:
    first, second = note(calls, 'a'), note(calls, 'b')
    for listener in (first, second, first):
        emitter.on('open', listener)
    emitter.remove_listener('open', first)
    assert emitter.listeners('open') == [first, second]


def test_remove_listener_removes_one_at_a_time(emitter: EventEmitter) -> None:
    emitter.on('open', print).on('open', print).remove_listener('open', print)
    assert emitter.listener_count('open') == 1


def test_a_once_listener_is_removed_by_its_function(emitter: EventEmitter, calls: list[Any]) -> None:
    listener = note(calls, 'a')
    emitter.once('open', listener).remove_listener('open', listener)
    assert emitter.emit('open') is False


def test_bound_methods_are_removed(emitter: EventEmitter) -> None:
    calls: list[Any] = []
    emitter.on('open', calls.append).remove_listener('open', calls.append)
    assert emitter.listener_count('open') == 0


def test_removing_an_unknown_listener_does_nothing(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('removeListener', note(calls, 'removed')).on('open', print)
    emitter.remove_listener('open', repr).remove_listener('shut', print)
    assert calls == []
    assert emitter.listeners('open') == [print]


def test_an_event_without_listeners_has_no_entry(emitter: EventEmitter) -> None:
    emitter.on('open', print).remove_listener('open', print)
    assert emitter.event_names() == []


def test_remove_all_listeners_of_one_event(emitter: EventEmitter) -> None:
    emitter.on('open', print).on('open', repr).on('shut', print)
    assert emitter.remove_all_listeners('open') is emitter
    assert emitter.event_names() == ['shut']


def test_remove_all_listeners_of_an_unknown_event(emitter: EventEmitter) -> None:
    emitter.on('open', print).remove_all_listeners('shut')
    assert emitter.event_names() == ['open']


def test_remove_all_listeners_of_a_new_emitter(emitter: EventEmitter) -> None:
    assert emitter.remove_all_listeners() is emitter


def test_remove_all_listeners(emitter: EventEmitter) -> None:
    emitter.on('open', print).on('shut', print).remove_all_listeners()
    assert emitter.event_names() == []


def test_remove_all_listeners_emits_remove_listener_in_reverse_order(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('removeListener', note(calls, 'removed'))
    emitter.on('open', print).once('open', repr).on('shut', str)
    emitter.remove_all_listeners()
    assert calls == [('removed', 'open', repr), ('removed', 'open', print), ('removed', 'shut', str)]
    assert emitter.event_names() == []


def test_remove_all_listeners_of_one_event_emits_remove_listener(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('removeListener', note(calls, 'removed')).on('open', print).on('open', repr)
    emitter.remove_all_listeners('open')
    assert calls == [('removed', 'open', repr), ('removed', 'open', print)]
    assert emitter.event_names() == ['removeListener']


# -- 'newListener' and 'removeListener' -------------------------------------------------------------------------------


def test_new_listener_is_emitted_before_the_listener_is_added(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('newListener', lambda event, listener: calls.append((event, listener, emitter.listeners(event))))
    emitter.on('open', print)
    assert calls == [('open', print, [])]


def test_a_listener_added_by_new_listener_is_first(emitter: EventEmitter) -> None:
    def add(event: str, listener: Any) -> None:
        emitter.remove_listener('newListener', add)
        emitter.on(event, repr)

    emitter.on('newListener', add).on('open', print)
    assert emitter.listeners('open') == [repr, print]


@pytest.mark.parametrize('method', ['on', 'once', 'prepend_listener'])
def test_new_listener_gets_the_original_function(emitter: EventEmitter, calls: list[Any], method: str) -> None:
    emitter.on('newListener', note(calls, 'new'))
    getattr(emitter, method)('open', print)
    assert calls == [('new', 'open', print)]


def test_new_listener_is_not_emitted_for_its_first_listener(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('newListener', note(calls, 'new'))
    assert calls == []


def test_new_listener_is_not_emitted_for_a_rejected_listener(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('newListener', note(calls, 'new'))
    with pytest.raises(TypeError):
        emitter.on('open', 7)  # type: ignore[arg-type] # that is the point
    assert calls == []


def test_remove_listener_is_emitted_after_the_removal(emitter: EventEmitter, calls: list[Any]) -> None:
    emitter.on('removeListener', lambda event, listener: calls.append((event, listener, emitter.listeners(event))))
    emitter.on('open', print).remove_listener('open', print)
    assert calls == [('open', print, [])]


def test_once_emits_remove_listener(emitter: EventEmitter, calls: list[Any]) -> None:
    listener = note(calls, 'open')
    emitter.on('removeListener', note(calls, 'removed')).once('open', listener)
    emitter.emit('open')
    assert calls == [('removed', 'open', listener), ('open',)]
