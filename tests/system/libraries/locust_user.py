"""A Locust user over geventnode's client, without Locust's own runner: one task, and the events that it caused.

It is started as ``locust_user.py URL``, and prints its results as JSON.
"""

from __future__ import annotations

import json
import sys
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from itertools import product
from time import time
from typing import Any
from urllib.request import Request

import locust  # patches the standard library
from locust.env import Environment

from contrib.examples.locust_user import AgentUser, Cookies
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


class Counting(Cookies):
    """Count the computed fields."""

    computed = 0

    def add_cookie_header(self, request: Any) -> None:
        self.computed += 1
        super().add_cookie_header(request)


def cookie(name: str, domain: str = 'a.example', path: str = '/', **changes: Any) -> Cookie:
    fields = {
        'port': None,
        'port_specified': False,
        'secure': False,
        'expires': None,
        'discard': True,
        'comment': None,
        'comment_url': None,
        'rest': {},
        **changes,
    }
    return Cookie(0, name, name.upper(), domain=domain, domain_specified=domain[0] == '.', domain_initial_dot=True,
                  path=path, path_specified=True, **fields)  # fmt: skip


def check_cookies() -> None:
    """The kept fields are those of ``http.cookiejar``, after each change of a cookie or of the policy."""
    jar = Counting()
    urls = [
        f'{scheme}://{host}{path}'
        for scheme, host, path in product(
            ('http', 'https'),
            ('a.example', 'b.a.example', 'b.example', 'a.example:81', 'localhost'),
            ('', '?/a', '/', '/a', '/a?x=/b', '/a/b', '/ab'),
        )
    ]

    def check() -> None:
        for url in urls * 2:
            request: Any = Request(url)
            CookieJar.add_cookie_header(jar, request)
            assert jar.field_for(url) == request.get_header('Cookie'), url

    check()
    assert jar.computed == 0
    one = cookie('one')
    later = cookie('later', expires=int(time()) + 1000)
    changes = [
        lambda: jar.set_cookie(one),
        lambda: jar.set_cookie(cookie('two', domain='.a.example')),
        lambda: jar.set_cookie(cookie('three', domain='localhost.local')),
        lambda: jar.set_cookie(cookie('four', secure=True)),
        lambda: jar.set_cookie(cookie('five', port='81', port_specified=True)),
        lambda: jar.set_cookie(later),
        lambda: setattr(one, 'value', 'changed'),
        lambda: setattr(later, 'expires', 1),
        lambda: jar._policy.set_blocked_domains(['b.a.example']),
        lambda: jar.set_policy(DefaultCookiePolicy(allowed_domains=['a.example'])),
        lambda: jar.set_policy(DefaultCookiePolicy()),
        lambda: jar.set_cookie(cookie('six', path='/a')),
        lambda: jar.set_cookie(cookie('seven', path='/a/')),
        lambda: jar.clear('a.example', '/', 'one'),
        lambda: setattr(jar, '_policy', Silent()),
        lambda: jar.clear(),
    ]
    for change in changes:
        change()
        check()
    # not for each request
    jar.set_policy(DefaultCookiePolicy())
    jar.set_cookie(one)
    before = jar.computed
    assert {jar.field_for(f'http://a.example/{number}?{number}') for number in range(100)} == {'one=changed'}
    assert jar.computed == before + 1
    jar.set_cookie(cookie('seven', path='/7'))
    assert jar.field_for('http://a.example/7/') == 'seven=SEVEN; one=changed'
    assert {jar.field_for(f'http://a.example/8?{number}') for number in range(100)} == {'one=changed'}
    assert jar.computed == before + 3
    for number in range(2000):
        jar.field_for(f'http://a.example/{number}')
    assert len(jar._fields) <= 1000


class Silent(DefaultCookiePolicy):
    """Return no cookie to one host."""

    def return_ok(self, cookie: Any, request: Any) -> Any:
        return 'b' not in request.host and super().return_ok(cookie, request)


check_cookies()
Visitor.context = lambda self: {'of': 'the user'}  # type: ignore[method-assign]
environment = Environment(user_classes=[Visitor])
environment.create_local_runner()
environment.events.request.add_listener(note)
user = Visitor(environment)
user.visit()
user.on_stop()
totals = environment.stats.total
sys.stdout.write(json.dumps({'events': events, 'requests': totals.num_requests, 'failures': totals.num_failures}))
