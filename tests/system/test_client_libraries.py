"""Libraries beside the client: OpenTelemetry, Locust, Elasticsearch's client and boto3, in their real versions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.https_sites import Secure
from tests.servers import Client, Serve
from tests.system.installed import installed
from tests.system.running import Served
from tests.system.scripts import PACKAGES, environment, run, run_ways

ROOT = Path(__file__).parent.parent.parent

#: Requests that wait for each other.
TOGETHER = 5


@pytest.fixture
def packages(pytestconfig: pytest.Config) -> Path:
    return installed(pytestconfig, 'libraries', *PACKAGES)


# -- OpenTelemetry ----------------------------------------------------------------------------------------------------

TRACE, PARENT = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
TRACEPARENT = f'traceparent: 00-{TRACE}-{PARENT}-01'


def test_instrumented_flask(packages: Path) -> None:
    """Each request has its own span, and none is left for the next request of a worker.

    The instrumentation of Flask ends a span before a streamed body, with other servers as well.
    """
    seen = []
    with (
        Served('traced_site:app', env=environment(packages), errors='(?s).*on purpose.*') as site,
        Client(('127.0.0.1', site.port)) as client,
    ):
        for path, fields in (('/current', (TRACEPARENT,)), ('/current', ()), ('/stream', (TRACEPARENT,))):
            (line,) = set(client.get(path, *fields).body.decode().splitlines())
            seen.append(json.loads(line))
        assert client.get('/fail').status == 500
        spans = json.loads(client.get('/spans').body)
    assert [each['trace'] == TRACE for each in seen] == [True, False, False]
    assert [span['name'] for span in spans] == ['GET /current', 'GET /current', 'GET /stream', 'GET /fail']
    assert [span['parent'] for span in spans] == [PARENT, None, PARENT, None]
    assert [span['span'] for span in spans[:2]] == [each['span'] for each in seen[:2]]
    assert int(seen[2]['span'], 16) == 0
    assert [span['status'] for span in spans] == ['UNSET', 'UNSET', 'UNSET', 'ERROR']


def test_instrumented_wsgi(packages: Path) -> None:
    with Served('traced_site:wsgi', env=environment(packages)) as site, Client(('127.0.0.1', site.port)) as client:
        seen = [json.loads(client.get('/', *fields).body) for fields in ((TRACEPARENT,), (), (TRACEPARENT,), ())]
    assert [each['trace'] == TRACE for each in seen] == [True, False] * 2
    assert len({each['span'] for each in seen}) == 4


def test_instrumented_requests(packages: Path, serve: Serve) -> None:
    def listener(request: Any, response: Any) -> None:
        response.status_code = 404 if request.url == '/none' else 200
        response.end(request.headers.get('traceparent'))

    url = f'http://127.0.0.1:{serve(listener).where[1]}'
    found = run_ways(packages, 'opentelemetry_requests.py', url)
    assert found['AGENTS'] == found['PATCHED'] == found['PLAIN']
    assert found['PLAIN']['carried']
    assert found['PLAIN']['child']
    assert found['PLAIN']['names'] == ['GET', 'GET']
    assert found['PLAIN']['errors'] == ['UNSET', 'ERROR']


# -- Elasticsearch ----------------------------------------------------------------------------------------------------


class Cluster:
    """Respond like a node of Elasticsearch."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def __call__(self, request: Any, response: Any) -> None:
        body = request.read()
        response.set_header('X-Elastic-Product', 'Elasticsearch')
        response.set_header('Content-Type', 'application/vnd.elasticsearch+json; compatible-with=9')
        path = request.url.partition('?')[0]
        if path == '/':
            found: Any = {'version': {'number': '9.5.1'}, 'tagline': 'You Know, for Search'}
        elif path == '/_bulk':
            found = {'errors': False, 'items': [{'index': {'status': 201}}] * body.count(b'"_index"')}
        elif path.endswith('/_search'):
            found = {'hits': {'total': {'value': 500}, 'hits': []}}
        elif request.method == 'PUT':
            found = {'result': 'created'}
        elif path.endswith('/none'):
            response.status_code = 404
            found = {'found': False}
        elif path.endswith('/lost'):
            request.socket.destroy()
            return
        elif path.endswith('/gate'):
            # each waits for the other ones
            self.waiting.append(response)
            if len(self.waiting) == TOGETHER:
                while self.waiting:
                    self.waiting.pop().end(json.dumps({'_id': 'gate'}))
            return
        else:
            # too late
            return
        response.end(json.dumps(found))


def test_elasticsearch(packages: Path, serve: Serve, secure: Secure, certificates: Certificates) -> None:
    """Its node class on ``requests`` takes the adapter; results and errors are the same."""
    url = f'http://127.0.0.1:{serve(Cluster()).where[1]}'
    others = f'https://localhost:{secure(Cluster()).where[1]}', str(certificates.ca)
    found = run_ways(packages, 'elastic_client.py', url, *others)
    assert found['AGENTS'] == found['PATCHED'] == found['PLAIN']
    assert found['PLAIN'] == {
        'info': '9.5.1',
        'indexed': 'created',
        'bulk': 500,
        'found': 500,
        'missing': 'NotFoundError',
        'late': 'ConnectionTimeout',
        'lost': 'ConnectionError',
        'secured': '9.5.1',
        'not trusted': 'TlsError',
        'refused': 'ConnectionError',
        'together': True,
    }


# -- docker-py over a Unix socket -------------------------------------------------------------------------------------


def test_docker_over_a_unix_socket(packages: Path, tmp_path: Path) -> None:
    """Its own adapter waits cooperatively; with an agent, no output is lost."""
    found = run(packages, 'docker_unix.py', str(tmp_path / 'docker.sock'))
    # the output of the own adapter depends on the time at which the bytes arrive
    assert found['own'].pop('output') in 'first and last'
    assert found['agent'].pop('output') == 'first and last'
    assert found['own'] == found['agent'] == {'lists': [[]] * 3, 'events': [0, 1, 2]}
    assert found['requests'] == 6


# -- boto3 ------------------------------------------------------------------------------------------------------------


def test_boto3_with_moto(packages: Path) -> None:
    """moto's S3 runs on the server; boto3 waits cooperatively when the standard library is patched."""
    with Served('moto_site:app', env=environment(packages)) as site:
        found = run(packages, 'boto3_patched.py', site.url)
    assert found == {
        'objects': [True, True, True],
        'listeners': ['hello'] * 3,
        'together': 12,
        'presigned': True,
        'agent': 4,
    }


# -- Locust -----------------------------------------------------------------------------------------------------------


def visited(request: Any, response: Any) -> None:
    """Respond with the request, or as its path demands."""
    path = request.url.partition('?')[0]
    if path.startswith('/status/'):
        response.status_code = int(path.rpartition('/')[2])
        response.end('as wanted')
        return
    redirects = {
        '/login': (302, '/echo'),
        '/see-other': (303, '/echo'),
        '/temporary': (307, 'echo'),
        '/loop': (302, '/loop'),
    }
    if path in redirects:
        response.status_code, location = redirects[path]
        response.set_header('Location', location)
        if path == '/login':
            response.set_header('Set-Cookie', 'session=abc; Path=/; HttpOnly')
        response.end()
        return
    if path == '/gzip':
        response.set_header('Content-Encoding', 'gzip')
        response.set_header('Content-Type', 'text/plain; charset=utf-8')
        response.end(gzip.compress('compressed ä'.encode()))
        return
    if path == '/cut':
        response.set_header('Content-Length', '100')
        response.write(b'x')
        request.socket.destroy()
        return
    found = {
        'method': request.method,
        'url': request.url,
        'headers': dict(request.headers),
        'body': request.read().decode(),
    }
    response.end(json.dumps(found))


def test_locust(packages: Path, serve: Serve) -> None:
    """The user class of an example, with each of its abilities."""
    assert (ROOT / 'contrib' / 'examples' / 'locust_user.py').exists()
    found = run(packages, 'locust_user.py', f'http://127.0.0.1:{serve(visited).where[1]}')
    events = [each for each in found['events'] if len(each) > 1]
    assert [[method, name] for method, name, _, failure in events if failure is None] == [
        ['GET', '/echo'],
        ['GET', 'named'],
        ['GET', 'renamed'],
        ['POST', '/echo'],
        ['PUT', '/echo'],
        ['PATCH', '/echo'],
        ['DELETE', '/echo'],
        ['OPTIONS', '/echo'],
        ['HEAD', '/echo'],
        ['GET', '/gzip'],
        ['GET', 'login'],
        ['GET', '/echo'],
        ['GET', '/echo'],
        ['POST', '/see-other'],
        ['POST', '/temporary'],
        ['GET', '/see-other'],
        ['GET', '/status/404'],
    ]
    failures = [[method, name, failure] for method, name, _, failure in events if failure is not None]
    assert [each[1] for each in failures] == ['/loop', '/status/404', '/cut', 'refused', '/echo', '/status/500']
    assert [each[2] for each in failures][1::3] == ['404 Not Found', 'wrong']
    assert failures[0][2].startswith('5 redirects were followed')
    assert failures[5][2] == '500 Internal Server Error'
    assert [each[0] for each in found['events'] if len(each) == 1] == ['InvalidHeader', 'InvalidInput']
    assert (found['requests'], found['failures']) == (len(events), len(failures))
