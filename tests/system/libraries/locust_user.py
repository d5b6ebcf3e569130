"""A Locust user over geventnode's client, without Locust's own runner: one task, and the events that it caused.

It is started as ``locust_user.py URL``, and prints its results as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import locust  # patches the standard library
from locust.env import Environment

from contrib.examples.locust_user import AgentUser
from geventnode.errors import InvalidInput

URL = sys.argv[1]
events: list[list[Any]] = []


class Visitor(AgentUser):
    """Use every ability of the client."""

    host = URL
    default_headers = {'X-Default': 'yes'}  # noqa: RUF012 - as in Locust

    @locust.task
    def visit(self) -> None:
        client = self.client
        assert client.get('/echo').json()['headers']['x-default'] == 'yes'
        assert client.get('/echo?a=1', name='named', params={'b': ['2', '3']}).json()['url'] == '/echo?a=1&b=2&b=3'
        with client.rename_request('renamed'):
            assert client.get('/echo', headers={'X-Default': 'no'}).json()['headers']['x-default'] == 'no'
        assert client.post('/echo', json={'a': 1}).json()['body'] == '{"a": 1}'
        assert client.put('/echo', {'a': 'ä'}).json()['body'] == 'a=%C3%A4'
        assert client.patch('/echo', 'text', auth=('user', 'word')).json()['headers']['authorization']
        assert client.delete('/echo').ok
        assert client.options('/echo').ok
        assert client.head('/echo').content == b''
        assert client.get('/gzip').text == 'compressed ä'
        # cookies, through a redirect, until they are removed
        assert client.get('/login', name='login').json()['headers']['cookie'] == 'session=abc'
        assert client.get('/echo').json()['headers']['cookie'] == 'session=abc'
        client.cookiejar.clear()
        assert 'cookie' not in client.get('/echo').json()['headers']
        assert client.post('/see-other', 'body').json()['method'] == 'GET'
        assert client.post('/temporary', 'body').json()['body'] == 'body'
        assert client.get('/see-other', allow_redirects=False).status_code == 303
        assert client.get('/loop').status_code == 302
        # failures
        assert client.get('/status/404').status_code == 404
        assert client.get('/cut').status_code == 0
        assert client.get('http://127.0.0.1:1/', name='refused').status_code == 0
        with client.get('/status/404', catch_response=True) as response:
            response.success()
        with client.get('/echo', catch_response=True) as response:
            response.failure('wrong')
        with client.get('/status/500', catch_response=True):
            pass
        try:
            client.get('/echo', headers={'a': '\n'})
        except Exception as error:
            events.append([type(error).__name__])
        try:
            client.get('http://host name/')
        except InvalidInput as error:
            events.append([type(error).__name__])


def note(request_type: str, name: str, response_time: float, response_length: int, exception: Any, **rest: Any) -> None:
    assert response_time > 0
    assert rest['start_time'] > 0
    assert rest['context'] == {'of': 'the user'}
    events.append([request_type, name, response_length, None if exception is None else str(exception)])


Visitor.context = lambda self: {'of': 'the user'}  # type: ignore[method-assign]
environment = Environment(user_classes=[Visitor])
environment.create_local_runner()
environment.events.request.add_listener(note)
user = Visitor(environment)
user.visit()
user.on_stop()
totals = environment.stats.total
sys.stdout.write(json.dumps({'events': events, 'requests': totals.num_requests, 'failures': totals.num_failures}))
