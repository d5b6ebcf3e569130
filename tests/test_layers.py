"""The layers of the package: imports, private names and rooms, read from the source.

A file imports only from layers with a lower number, or from files named before it in its own row of :data:`LAYERS`;
an import for type checkers alone can also be from a later file of its row. A new file must be added here.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import geventnode

ROOT = Path(__file__).parent.parent
FOREIGN = {'gevent', 'greenlet', 'zope.interface'}
#: The libraries of each integration, which no other module may import.
LIBRARIES = {
    'geventnode.http2.engine': {'hyperframe'},
    'geventnode.http2.header_decoder': {'hpack'},
    'geventnode.http2.header_encoder': {'hpack'},
    'geventnode.integrations.gunicorn.logger': {'gunicorn'},
    'geventnode.integrations.gunicorn.worker': {'gunicorn'},
    'geventnode.integrations.opentelemetry': {'opentelemetry'},
    'geventnode.integrations.prometheus': {'prometheus_client'},
    'geventnode.integrations.requests.adapter': {'requests', 'urllib3'},
    'geventnode.integrations.requests.pools': {'urllib3'},
    'geventnode.integrations.requests.response': {'urllib3'},
    'geventnode.integrations.requests.pool_kwargs': {'urllib3'},
    'geventnode.net.hostnames': {'idna'},
    'geventnode.testing.pytest': {'pytest'},
    'geventnode.websocket.deflate': {'wsproto'},
    'geventnode.websocket.frames': {'wsproto'},
    'geventnode.websocket.handshake': {'wsproto'},
}
#: The modules that may patch the standard library, or check whether it is patched.
PATCHING = {'geventnode.cli.main', 'geventnode.cli.doctor.facts', 'geventnode.integrations.gunicorn.worker'}
#: The layers that must run without gevent.
WITHOUT_GEVENT = {'geventnode.interfaces', 'geventnode.errors', 'geventnode.protocol'}

LAYERS = [
    ['geventnode'],
    [
        'errors',
        'interfaces.events',
        'interfaces.streams',
        'interfaces.net',
        'interfaces.http',
        'interfaces.client',
        'interfaces.tls',
        'interfaces.websocket',
        'interfaces',
    ],
    ['events', 'extras', 'options', 'loggers'],
    [
        'stream.chunks',
        'stream.turn',
        'stream.files',
        'stream.pump',
        'stream.readable',
        'stream.writable',
        'stream.duplex',
        'stream.finished',
        'stream.pipeline',
        'stream',
    ],
    [
        'protocol.limits',
        'protocol.grammar',
        'protocol.headers',
        'protocol.framing',
        'protocol.field_lines',
        'protocol.common_lines',
        'protocol.block',
        'protocol.parse_cache',
        'protocol.head',
        'protocol.chunked',
        'protocol.parser',
        'protocol.serializer',
        'protocol.forwarded',
        'protocol.proxy',
        'protocol',
    ],
    [
        'net.threads',
        'net.deadlines',
        'net.forks',
        'net.descriptors',
        'net.address',
        'net.hostnames',
        'net.connecting',
        'net.socket',
        'net.listen',
        'net.rate_limited_log',
        'net.proxy_protocol',
        'net.server',
        'net',
        'tls.client_hello',
        'tls.engine',
        'tls.failures',
        'tls.identity',
        'tls.nested',
        'tls.socket',
        'tls.context_source',
        'tls.contexts',
        'tls.client',
        'tls.server',
        'tls',
    ],
    [
        'http.server',
        'http.client',
        'http.status',
        'http.header_fields',
        'http.body_framing',
        'http.server.buffer_limit',
        'http.server.run_queue',
        'http.server.workers',
        'http.connection_log',
        'http.notification',
        'http.server.error_response',
        'http.incoming',
        'http.same_origin',
        'http.body_reader',
        'http.server.deadlines',
        'http.outgoing',
        'http.server.response_head',
        'http.server.head_cache',
        'http.body_source',
        'http.server.response',
        'http.server.request_body',
        'http.server.refusals',
        'http.server.listener_checks',
        'http.server.served',
        'http.server.connection',
        'http.server.trace',
        'http2.codes',
        'http2.fields',
        'http2.limits',
        'http2.header_decoder',
        'http2.header_encoder',
        'http2.engine',
        'http2.response',
        'http2.stream_socket',
        'http2.tunnel',
        'http2.stream',
        'http2.deadlines',
        'http2.connection',
        'http2.trace',
        'http2.preface',
        'http2',
        'http.server.upgraded',
        'http.server.server',
        'http.server.observers',
        'http.server.access_log',
        'http.server.readiness',
        'http.server.event_broadcast',
        'http.client.origin',
        'http.client.no_proxy',
        'http.client.proxy',
        'http.client.write_buffer',
        'http.client.pool',
        'http.client.released_socket',
        'http.client.response',
        'http.client.request_events',
        'http.client.request',
        'http.client.tunnel',
        'http.client.proxied_request',
        'http.client.observers',
        'http.client.response_body',
        'http.client.deadlines',
        'http.client.connection',
        'http.client.trace',
        'http.client.dial',
        'http.client.reservation',
        'http.client.agent',
        'http.client.api',
        'http',
        'https',
    ],
    [
        'websocket.deflate',
        'websocket.frames',
        'websocket.connection',
        'websocket.handshake',
        'websocket.server',
        'websocket.client',
        'websocket',
    ],
    [
        'integrations',
        'integrations.wsgi.input',
        'integrations.wsgi.socket',
        'integrations.wsgi.websocket',
        'integrations.wsgi.environ',
        'integrations.wsgi.head',
        'integrations.wsgi.application',
        'integrations.wsgi',
        'integrations.gunicorn.settings',
        'integrations.gunicorn.observers',
        'integrations.gunicorn.logger',
        'integrations.gunicorn.worker',
        'integrations.gunicorn',
        'integrations.opentelemetry',
        'integrations.prometheus',
        'integrations.requests.sockets',
        'integrations.requests.response',
        'integrations.requests.pool_kwargs',
        'integrations.requests.pools',
        'integrations.requests.adapter',
        'integrations.requests',
    ],
    ['monitor.page', 'monitor.access', 'monitor.snapshot', 'monitor.sampler', 'monitor.listener', 'monitor'],
    ['testing', 'testing.memory', 'testing.raw', 'testing.sites', 'testing.websockets', 'testing.pytest'],
    [
        'cli',
        'cli.lines',
        'cli.demo.pool',
        'cli.demo.uploads',
        'cli.demo.site',
        'cli.demo',
        'cli.endpoints',
        'cli.get',
        'cli.arguments',
        'cli.targets',
        'cli.reload',
        'cli.doctor.findings',
        'cli.doctor.facts',
        'cli.doctor.checks',
        'cli.doctor',
        'cli.main',
        '__main__',
    ],
]


@cache
def _order() -> dict[str, tuple[int, int]]:
    """Return the place of each module: its layer and its position in the row."""
    return {
        name if name == 'geventnode' else f'geventnode.{name}': (layer, place)
        for layer, row in enumerate(LAYERS)
        for place, name in enumerate(row)
    }


@cache
def _modules() -> dict[str, Path]:
    """Return the file of each module of the package, by dotted name."""
    found = {}
    for path in sorted((ROOT / 'geventnode').rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


@cache
def _source(module: str) -> str:
    return _modules()[module].read_text('utf-8')


class Facts(NamedTuple):
    """The facts about a file that the rules refer to. Trees are not kept: they would slow the leak check down."""

    has_docstring: bool
    #: The public functions and classes.
    public: set[str]
    imports: list[ast.Import | ast.ImportFrom]
    #: The lines under ``if TYPE_CHECKING:``.
    types_only: set[int]
    #: The names of functions, classes, attributes, slots and variables that the file defines.
    defined: set[str]
    #: The line, the owner and the name of each attribute that is private or called ``monkey``.
    attributes: list[tuple[int, str, str]]


@cache
def _facts(source: str) -> Facts:
    """Return the facts about ``source``, collected in one walk over its tree."""
    tree = ast.parse(source)
    facts = Facts(bool(ast.get_docstring(tree)), set(), [], set(), set(), [])
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith('_'):
            facts.public.add(node.name)
    for node in ast.walk(tree):
        match node:
            case ast.Import() | ast.ImportFrom():
                facts.imports.append(node)
            case ast.If(ast.Name('TYPE_CHECKING'), body):
                facts.types_only.update(range(body[0].lineno, body[-1].lineno + 1))
            case ast.FunctionDef(name) | ast.ClassDef(name) | ast.Name(name, ast.Store()):
                facts.defined.add(name)
            case ast.Constant(str(name)):
                # slots, and attributes that are set by name
                facts.defined.add(name)
            case ast.Attribute(owner, name, context):
                if isinstance(owner, ast.Name) and owner.id == 'self' and isinstance(context, ast.Store):
                    facts.defined.add(name)
                if _is_private(name) or name == 'monkey':
                    facts.attributes.append((node.lineno, ast.unparse(owner), name))
    return facts


def _is_private(name: str) -> bool:
    return name.startswith('_') and not name.startswith('__')


def _imports(source: str, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield the line and the full name of each import; ``from a import b`` is ``a.b`` for a module."""
    for node in _facts(source).imports:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif node.level:
            yield node.lineno, '.' * node.level + (node.module or '')
        else:
            for alias in node.names:
                full = f'{node.module}.{alias.name}'
                yield node.lineno, full if full in known else str(node.module)


def _upward(name: str, source: str, known: dict[str, Path]) -> list[str]:
    """Return a complaint for every import in ``source``, the file of module ``name``, from a higher layer."""
    order = _order()
    types_only = _facts(source).types_only
    wrong = []
    for line, imported in _imports(source, known):
        where = f'{name}:{line} imports {imported}'
        if imported.startswith('.'):
            wrong.append(f'{where}: relative')
        elif imported.split('.')[0] != 'geventnode':
            continue
        elif imported not in order:
            wrong.append(f'{where}: which has no place in LAYERS')
        elif line in types_only and order[imported][0] == order[name][0]:
            continue
        elif order[imported] >= order[name]:
            wrong.append(f'{where}: which is not below it')
    return wrong


def _foreign(name: str, source: str, known: dict[str, Path]) -> list[str]:
    """Return a complaint for every import of a library that the package must not need."""
    wrong = []
    types_only = _facts(source).types_only
    for line, imported in _imports(source, known):
        top = imported.split('.')[0]
        allowed = (
            top in sys.stdlib_module_names
            # type checkers bring it along
            or (top == 'typing_extensions' and line in types_only)
            or top == 'geventnode'
            or any(imported == each or imported.startswith(f'{each}.') for each in FOREIGN | LIBRARIES.get(name, set()))
        )
        pure = any(name == each or name.startswith(f'{each}.') for each in WITHOUT_GEVENT)
        if not allowed or (pure and top in ('gevent', 'greenlet')):
            wrong.append(f'{name}:{line} imports {imported}')
    return wrong


def _patches(name: str, source: str, known: dict[str, Path]) -> list[str]:
    """Return a complaint for every import of gevent.monkey.

    Only modules that start a process patch it. ``get_original``, which returns an unpatched function, is allowed
    everywhere.
    """
    if name in PATCHING:
        return []
    facts = _facts(source)
    harmless = {
        node.lineno
        for node in facts.imports
        if isinstance(node, ast.ImportFrom)
        and node.module == 'gevent.monkey'
        and [alias.name for alias in node.names] == ['get_original']
    }
    imported = [
        f'{name}:{line} imports {imported}'
        for line, imported in _imports(source, known)
        if 'monkey' in imported.split('.') and line not in harmless
    ]
    named = [alias.lineno for node in facts.imports for alias in node.names if alias.name == 'monkey']
    named += [line for line, _, attribute in facts.attributes if attribute == 'monkey']
    return imported + [f'{name}:{line} names monkey' for line in named]


def _across(name: str, source: str, known: dict[str, Path]) -> list[str]:
    """Return a complaint for every import between ``http.server`` and ``http.client``, type checking included."""
    rooms = 'geventnode.http.server', 'geventnode.http.client'
    return [
        f'{name}:{line} imports {imported} of the other room'
        for line, imported in _imports(source, known)
        for own, other in (rooms, rooms[::-1])
        if f'{name}.'.startswith(f'{own}.') and f'{imported}.'.startswith(f'{other}.')
    ]


CHECKS = [_upward, _foreign, _patches, _across]


@pytest.mark.parametrize('check', CHECKS)
def test_imports_of_every_file(check) -> None:
    known = _modules()
    order = _order()
    wrong = [each for name in known if name in order for each in check(name, _source(name), known)]
    assert not wrong, '\n'.join(wrong)


def test_every_file_has_a_place() -> None:
    assert sorted(_modules()) == sorted(_order())


@pytest.mark.parametrize(
    ('check', 'name', 'source', 'complaint'),
    [
        (_upward, 'geventnode.errors', 'from geventnode.net import Socket', 'not below'),
        (_upward, 'geventnode.stream.readable', 'import geventnode.stream.duplex', 'not below'),
        (_upward, 'geventnode.stream.readable', 'from geventnode.stream import duplex', 'not below'),
        (_upward, 'geventnode.stream.readable', 'from geventnode.stream import Duplex', 'not below'),
        (_upward, 'geventnode.stream.readable', 'def later():\n    from geventnode import cli', 'not below'),
        (_upward, 'geventnode.stream.readable', 'from geventnode.unknown import name', 'no place'),
        (_upward, 'geventnode.stream.readable', 'from . import chunks', 'relative'),
        (_upward, 'geventnode.stream.pump', 'if TYPE_CHECKING:\n    from geventnode import net', 'not below'),
        (
            _upward,
            'geventnode.stream.pump',
            'if TYPE_CHECKING:\n    pass\nimport geventnode.stream.duplex',
            'not below',
        ),
        (_foreign, 'geventnode.net', 'import requests', 'requests'),
        (_foreign, 'geventnode.net', 'from typing_extensions import Unpack', 'typing_extensions'),
        (_foreign, 'geventnode.integrations', 'import requests', 'requests'),
        (_foreign, 'geventnode.net', 'from zope.event import notify', 'zope.event'),
        (_foreign, 'geventnode.protocol.parser', 'import gevent', 'gevent'),
        (_foreign, 'geventnode.integrations.wsgi.application', 'import gunicorn', 'gunicorn'),
        (_across, 'geventnode.http.client.agent', 'from geventnode.http.server import status', 'other room'),
        (_across, 'geventnode.http.server.trace', 'import geventnode.http.client.trace', 'other room'),
        (
            _across,
            'geventnode.http.server.trace',
            'if TYPE_CHECKING:\n    from geventnode.http.client.agent import Agent',
            'other room',
        ),
        (_patches, 'geventnode.net', 'from gevent import monkey', 'monkey'),
        (_patches, 'geventnode.net', 'from gevent.monkey import patch_all', 'monkey'),
        (_patches, 'geventnode.net', 'from gevent.monkey import get_original, patch_all', 'monkey'),
        (_patches, 'geventnode.net', 'import gevent\ngevent.monkey.patch_all()', 'monkey'),
    ],
)
def test_a_fault_is_found(check, name: str, source: str, complaint: str) -> None:
    known = _modules() | {'geventnode.cli.main': Path()}
    wrong = check(name, source, known)
    assert wrong
    assert complaint in wrong[0]


@pytest.mark.parametrize(
    ('check', 'name', 'source'),
    [
        (
            _upward,
            'geventnode.stream.readable',
            'from geventnode.stream.chunks import x\nfrom geventnode import errors',
        ),
        (_upward, 'geventnode.stream.pump', 'if TYPE_CHECKING:\n    from geventnode.stream.readable import Readable'),
        (_upward, 'geventnode.cli.main', 'from geventnode import __version__, net'),
        (_foreign, 'geventnode.net', 'import os.path, gevent.event, greenlet\nfrom zope.interface import implementer'),
        (_foreign, 'geventnode.integrations.requests.adapter', 'import requests\nfrom urllib3.util import Retry'),
        (_foreign, 'geventnode.net', 'if TYPE_CHECKING:\n    from typing_extensions import Unpack'),
        (_across, 'geventnode.http.client.agent', 'from geventnode.http.client.pool import Pool'),
        (
            _across,
            'geventnode.https',
            'from geventnode.http.client import api\nfrom geventnode.http.server import server',
        ),
        (_patches, 'geventnode.cli.main', 'from gevent import monkey'),
        (_patches, 'geventnode.net', 'from gevent.monkey import get_original'),
    ],
)
def test_a_correct_import_is_accepted(check, name: str, source: str) -> None:
    assert check(name, source, _modules()) == []


@pytest.mark.parametrize('name', sorted(_modules()))
def test_all_lists_the_public_names(name: str) -> None:
    """Every name in ``__all__`` exists, and no public function or class is missing."""
    facts = _facts(_source(name))
    assert facts.has_docstring
    if name == 'geventnode.__main__':
        return
    module = importlib.import_module(name)
    offered = module.__all__
    assert len(set(offered)) == len(offered)
    assert [each for each in offered if not hasattr(module, each)] == []
    assert sorted(facts.public - set(offered)) == []


def test_the_package_imports_nothing() -> None:
    """``import geventnode`` loads no other module of the package, so that patching can be first."""
    assert [each.name for each in pkgutil.iter_modules(geventnode.__path__)]
    source = _source('geventnode')
    assert [imported for _, imported in _imports(source, {})] == ['__future__']


# -- names with an underscore -----------------------------------------------------------------------------------------


def _accesses(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each access to a private name that another file defines.

    An object's access to its own names, inherited ones included, does not count.
    """
    facts = _facts(source)
    for node in facts.imports:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if _is_private(alias.name):
                    yield node.lineno, alias.name
    for line, owner, name in facts.attributes:
        if _is_private(name) and name not in facts.defined and owner not in ('self', 'cls', 'super()'):
            yield line, name


#: Private names that other files of the package use, by class: one part of the package offers them to another one, with
#: the reason. All other private names are for the objects and the files that define them.
OFFERED: dict[str, tuple[str, str]] = {
    'geventnode.events.EventEmitter': (
        'a check for listeners on the path of every request',
        '_listeners',
    ),
    'geventnode.stream.readable.ReadableBase': (
        'the pump, the file and the connections consume or end a stream',
        (
            '_at_end _emit_end _error _next_chunk _on_listener_error _on_reader_paused _read_buffer _reading'
            ' _report_error _unshift'
        ),
    ),
    'geventnode.stream.writable.WritableBase': (
        'a message waits for the queue of its connection',
        '_error',
    ),
    'geventnode.net.threads.ThreadBound': (
        'a fork closes the descriptors of a destroyed hub, as the end of a thread does',
        '_close_descriptors',
    ),
    'geventnode.net.socket.Socket': (
        'connections receive and send without events, and control deadlines, timeouts and the end',
        (
            '_attach _batching _can_sendfile _derived _detach _did_read _discard_after_fork _duplicate _end_nowait _eof'
            ' _expires _flush_now _has_input _has_queued _hub _last_activity _last_sent _no_delay _owner _pause_reading'
            ' _poll_now _protocol _raw _receive_more _receive_now _record_activity _reset_unless_ended _resetting'
            ' _restore_input _resume_reading _send _send_broken _send_later _send_pieces _send_vectored _sendfile'
            ' _set_client _set_protocol _take_input _has_progress _unsent_since _wait_for_drain _when_flushed _fetch'
        ),
    ),
    'geventnode.net.server.Server': (
        'connections use the hub and the log of their server, and the testing kit accepts on its own',
        '_at_capacity _hub _on_accept _peer_log',
    ),
    'geventnode.net.deadlines.HasDeadline': (
        'deadlines of many objects share one timer',
        '_expires',
    ),
    'geventnode.net.deadlines.Pollable': (
        'sockets are polled before they time out',
        '_poll_now',
    ),
    'geventnode.tls.socket.TLSSocket': (
        'servers and clients begin the handshake, and read its state',
        '_certificate _detach_plain _on_plain_http _peer_silent _start_handshake',
    ),
    'geventnode.tls.server.TLSServerMixin': (
        'the gunicorn worker brings its own source of contexts',
        '_use_source',
    ),
    'geventnode.http.incoming.IncomingMessage': (
        'a connection delivers the body and the end of the exchange',
        (
            '_abort _buffer _buffer_whole _buffered_size _chunk_sizes _connection _failure _finish_abort _has_reader'
            ' _head _headers'
            ' _mark_discarded _notify_end _on_discarded _read_started _set_complete _set_upgraded _upgraded'
        ),
    ),
    'geventnode.http.outgoing.OutgoingMessage': (
        'a connection and the access log check the sent bytes; a connection ends the message',
        '_error _has_body _head_sent _hub _length _removed_fields',
    ),
    'geventnode.http.server.response.ServerResponse': (
        'the connection, the observers and WSGI drive a response',
        (
            '_awaits_continue _continue_to_body _emit_close _end_if_whole _hijack _on_aborted _on_passed_on'
            ' _overridden _override _rejects_bad_body _spawn_close _upgraded _write_rendered'
        ),
    ),
    'geventnode.http.server.server.Server': (
        'connections use the settings and the pools of their server',
        (
            '_all_special _buffer_limit _cancels_listeners _connection_class _connection_log _dispatch'
            ' _dispatch_special _draining_since _forwarded_policy _http2_limits _idle_workers _keep_alive_fields'
            ' _limits _past_requests _protocols _request_limit'
            ' _respond_unhandled _run_queue _shortest_timeout _websocket_counts'
        ),
    ),
    'geventnode.http.client.request.ClientRequest': (
        'the agent and the connection drive a request',
        (
            '_abort_with _assign _awaits_source _body_refused _can_be_forgotten _claim_socket _closed _connect_options'
            ' _connect_step _connect_timeout _create_connection _deadline _dial _enter_queue _events _fail _failure'
            ' _has_waiters _keeps_chunks _limits _mark_error_retrieved _needs_precise_timer _on_informational'
            ' _on_refused _on_response _on_response_delivered _on_send_aborted _on_upgrade _origin _own_connect_options'
            ' _prepare_retry _queued_at _requested_origin _set_time_limits _shortest_timeout _timeout'
            ' _upgrade_event _wants_upgrade'
        ),
    ),
    'geventnode.http.client.response.ClientResponse': (
        'the connection delivers a response',
        '_is_flowing',
    ),
    'geventnode.http.client.agent.Agent': (
        'requests and connections report to the agent, and tools read its pools',
        (
            '_add_request _buckets _cancel _connection_log _delivering _has_queued _hub _new_request'
            ' _nonblocking_factories _observed_class _observers _on_connection_closed _on_connection_lost'
            ' _on_request_failed _on_request_forgotten _put_idle _remove _set_keep_alive_probes _set_request_class'
            ' _start_tls'
        ),
    ),
    'geventnode.http.client.reservation.Reservation': (
        'the agent grants a reservation as it assigns a request',
        '_enter_queue _fail _on_granted _origin _queued_at',
    ),
    'geventnode.http.client.connection.Connection': (
        'the body of a response ends the exchange',
        '_discard_after_fork _eof _on_forgotten',
    ),
    'geventnode.https.Agent': (
        'the requests adapter builds its settings from those of the agent',
        '_tls_settings',
    ),
    'geventnode.websocket.connection.WebSocket': (
        'a handler that leaves the messages to listeners does not end the WebSocket',
        '_by_events',
    ),
    'gevent.socket.socket': (
        'the plain socket below the cooperative one',
        '_sock',
    ),
    'socket.socket': (
        'the method of the standard library that returns a descriptor instead of a socket',
        '_accept',
    ),
}

#: Documented names with an underscore: those of named tuples, and of ``sys``; the keys of OpenTelemetry's context that
#: all of its instrumentations import; and the thread-locals of gunicorn's dirty clients, which have no public name.
DOCUMENTED = {
    '_SUPPRESS_HTTP_INSTRUMENTATION_KEY',
    '_SUPPRESS_INSTRUMENTATION_KEY',
    '_asdict',
    '_fields',
    '_getframe',
    '_make',
    '_replace',
    '_thread_local',
}


def _unlisted(sources: dict[str, str], offered: set[str]) -> list[str]:
    """Return a complaint for each access to a private name of another file that is not among ``offered``."""
    return [
        f'{name}:{line} uses {attribute} of another file'
        for name, source in sources.items()
        for line, attribute in _accesses(source)
        if attribute not in offered | DOCUMENTED
    ]


def _class(path: str) -> type:
    """Return the class with the dotted name ``path``."""
    module, _, name = path.rpartition('.')
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, type)
    return found


def _defines(owner: type, name: str) -> bool:
    """Return whether ``owner``, or one of its bases, has the attribute ``name``, if only in its instances."""
    return any(
        name in vars(each)
        or name in getattr(each, '__annotations__', ())
        or (each.__module__ in _modules() and f'self.{name} = ' in _source(each.__module__))
        or (each.__module__ in _modules() and f'self.{name}: ' in _source(each.__module__))
        for each in owner.__mro__
    )


def test_private_names_are_used_only_where_they_are_offered() -> None:
    sources = {name: _source(name) for name in _modules()}
    assert _unlisted(sources, {name for _, names in OFFERED.values() for name in names.split()}) == []


@pytest.mark.parametrize('path', OFFERED)
def test_offered_names_exist_and_are_used(path: str) -> None:
    reason, listed = OFFERED[path]
    names = set(listed.split())
    used = {attribute for module in _modules() for _, attribute in _accesses(_source(module))}
    assert reason
    assert sorted(name for name in names if not _defines(_class(path), name)) == []
    assert sorted(names - used) == []


def test_an_access_to_a_private_name_is_found() -> None:
    source = 'from a import _b\nx._c\nself._d\nsuper()._e\nx.__f__\nx._g\nx._h\nx._replace()\ndef _g(): pass\n'
    assert _unlisted({'file': source}, {'_h'}) == [
        'file:1 uses _b of another file',
        'file:2 uses _c of another file',
    ]


@pytest.mark.parametrize('definition', ["__slots__ = ('_a',)", 'self._a = 1', '_a: int = 1', 'def _a(): pass'])
def test_a_name_of_the_same_file_is_accepted(definition: str) -> None:
    assert _unlisted({'file': f'{definition}\nx._a\n'}, set()) == []


# -- the rooms of http ------------------------------------------------------------------------------------------------


def _one_sided(sources: dict[str, str]) -> list[str]:
    """Return the modules beside ``http.server`` and ``http.client`` that only one of these two imports.

    A module that is imported by another shared one is used by the sides that use that one. A module that
    ``geventnode.http`` imports is for users.
    """
    room = 'geventnode.http'
    known = dict.fromkeys(sources, Path())
    shared = {name for name in sources if name.startswith(f'{room}.') and name.count('.') == 2} - {
        f'{room}.server',
        f'{room}.client',
    }
    importers: dict[str, set[str]] = {name: set() for name in shared}
    for name, source in sources.items():
        for _, imported in _imports(source, known):
            if imported in shared:
                importers[imported].add(name)

    def sides(name: str) -> set[str]:
        found = set()
        for importer in importers[name]:
            if importer in shared:
                found |= sides(importer)
            elif importer == room:
                found |= {'server', 'client'}
            found |= {side for side in ('server', 'client') if importer.startswith(f'{room}.{side}.')}
        return found

    return sorted(name for name in shared if len(sides(name)) == 1)


def test_shared_files_are_used_by_both_sides() -> None:
    assert _one_sided({name: _source(name) for name in _modules()}) == []


def test_a_file_in_the_wrong_room_is_found() -> None:
    sources = {
        'geventnode.http.common': '',
        'geventnode.http.indirect': '',
        'geventnode.http.lonely': 'from geventnode.http import indirect',
        'geventnode.http.unused': '',
        'geventnode.http.offered': '',
        'geventnode.http': 'from geventnode.http.offered import y',
        'geventnode.http.server': '',
        'geventnode.http.server.a': 'from geventnode.http.common import x\nfrom geventnode.http import lonely, offered',
        'geventnode.http.client': '',
        'geventnode.http.client.b': 'import geventnode.http.common',
    }
    assert _one_sided(sources) == ['geventnode.http.indirect', 'geventnode.http.lonely']
