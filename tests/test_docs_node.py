"""Check the tables of Node's names in ``docs/moving/node.rst``.

``NODE`` lists the names in Node's documentation of ``http`` for v0.10. The page must have each of them, with a name
that exists.
"""

from __future__ import annotations

import re

import pytest

from geventnode import events, http, https, net, stream, tls
from geventnode.http.client.api import OPTIONS
from geventnode.interfaces import (
    IAgent,
    IClientRequest,
    IHTTPServer,
    IIncomingMessage,
    IServerResponse,
    ITLSSocket,
)
from tests.code_blocks import ROOT

PAGE = (ROOT / 'docs' / 'moving' / 'node.rst').read_text('utf-8')

#: The names in Node's documentation of v0.10.
NODE = {
    'http.STATUS_CODES',
    'http.createServer',
    'http.createClient',
    'http.Server',
    'http.ServerResponse',
    'http.request',
    'http.get',
    'http.Agent',
    'http.globalAgent',
    'http.ClientRequest',
    'http.IncomingMessage',
    'server.listen',
    'server.close',
    'server.maxHeadersCount',
    'server.setTimeout',
    'server.timeout',
    'response.writeContinue',
    'response.writeHead',
    'response.setTimeout',
    'response.statusCode',
    'response.setHeader',
    'response.headersSent',
    'response.sendDate',
    'response.getHeader',
    'response.removeHeader',
    'response.write',
    'response.addTrailers',
    'response.end',
    'agent.maxSockets',
    'agent.sockets',
    'agent.requests',
    'request.write',
    'request.end',
    'request.abort',
    'request.setTimeout',
    'request.setNoDelay',
    'request.setSocketKeepAlive',
    'message.httpVersion',
    'message.httpVersionMajor',
    'message.httpVersionMinor',
    'message.headers',
    'message.trailers',
    'message.setTimeout',
    'message.method',
    'message.url',
    'message.statusCode',
    'message.socket',
    'connection.verifyPeer',
    'connection.getPeerCertificate',
    'host',
    'hostname',
    'port',
    'localAddress',
    'socketPath',
    'method',
    'path',
    'headers',
    'auth',
    'agent',
}
EVENTS = {
    'Server': {'request', 'connection', 'close', 'checkContinue', 'connect', 'upgrade', 'clientError', 'timeout'},
    'ServerResponse': {'close', 'timeout'},
    'ClientRequest': {'response', 'socket', 'connect', 'upgrade', 'continue', 'error'},
    'IncomingMessage': {'close', 'data', 'readable', 'end'},
    'Socket': {'agentRemove', 'close', 'timeout'},
}
MODULES = {'http': http, 'https': https, 'net': net, 'tls': tls, 'stream': stream, 'events': events}
CONTRACTS = {
    'Server': IHTTPServer,
    'IncomingMessage': IIncomingMessage,
    'ServerResponse': IServerResponse,
    'ClientRequest': IClientRequest,
    'Agent': IAgent,
    'TLSSocket': ITLSSocket,
}

ROWS = re.findall(r'^(?:``([^`]+)``|\([^)]*\)) +``([^`]+)``', PAGE, re.MULTILINE)
NAMES = [(node, here) for node, here in ROWS if '.' in here]
OPTION_NAMES = [here for node, here in ROWS if '.' not in here and "'" not in here]
EVENT_NAMES = [(node, here.strip("'")) for node, here in ROWS if "'" in here]


def test_tables_are_complete() -> None:
    assert NODE - {node for node, _ in ROWS} == set()
    assert {(owner, event) for owner, named in EVENTS.items() for event in named} - set(EVENT_NAMES) == set()


def test_no_row_is_repeated() -> None:
    assert sorted(set(ROWS)) == sorted(ROWS)


@pytest.mark.parametrize('here', sorted({here for _, here in NAMES}))
def test_name_exists(here: str) -> None:
    owner, _, name = here.partition('.')
    if owner in MODULES:
        assert hasattr(MODULES[owner], name)
    else:
        assert name in CONTRACTS[owner].names(all=True)


def test_names_are_nodes_in_snake_case() -> None:
    for node, here in NAMES:
        if node:
            name = node.rpartition('.')[2]
            spelt = re.sub(r'(?<=[a-z])[A-Z]', lambda capital: f'_{capital[0].lower()}', name)
            assert here.rpartition('.')[2] in (name, spelt)


def test_options_exist() -> None:
    assert set(OPTION_NAMES) <= OPTIONS
    assert OPTIONS - set(OPTION_NAMES) == {'max_headers_count'}, 'max_headers_count is in the table of attributes'


@pytest.mark.parametrize('owner', sorted({owner for owner, _ in EVENT_NAMES}))
def test_events_exist(owner: str) -> None:
    emitted = {
        'Socket': net.Socket,
        'Server': http.Server,
        'IncomingMessage': http.IncomingMessage,
        'ServerResponse': http.ServerResponse,
        'ClientRequest': http.ClientRequest,
    }[owner].events
    assert {event for named, event in EVENT_NAMES if named == owner} <= emitted


def test_exported_names_are_in_the_tables() -> None:
    """Only the names without a counterpart in Node are missing."""
    additions = {
        'http.EventBroadcast',
        'http.ExchangeObserver',
        'http.RequestObserver',
        'http.log_access',
        'http.observe_exchanges',
        'http.observe_requests',
        'http.readiness',
    }
    assert {f'http.{name}' for name in http.__all__} - {here for _, here in NAMES} == additions
