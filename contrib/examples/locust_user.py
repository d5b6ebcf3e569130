"""A user class for Locust with geventnode's client.

Its ``client`` has the methods of Locust's own users, so that tasks move by a change of the base class. It differs where
that makes a load generator faster: a body is decoded when a task reads it, and cookies cost nothing until a server has
set one. Every request is one entry in Locust's statistics, its redirects included.
"""

from __future__ import annotations

import json as json_library
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from math import inf
from time import perf_counter, time
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import Request

from locust import User
from locust.exception import CatchResponseError, LocustError, ResponseError

from geventnode import http, https
from geventnode.errors import GeventnodeError, InvalidHeader, InvalidInput

__all__ = ['AgentSession', 'AgentUser', 'Cookies', 'Response']

#: The statuses of redirects (RFC 9110, section 15.4).
REDIRECTS = frozenset((301, 302, 303, 307, 308))

#: The fields of a request that belong to its body.
_BODY_FIELDS = frozenset(('content-length', 'content-type', 'content-encoding', 'transfer-encoding'))

#: The fields that only their origin must learn.
_CREDENTIALS = frozenset(('authorization', 'cookie'))

#: The most fields that :class:`Cookies` keeps.
_MAX_FIELDS = 1000


class TooManyRedirects(LocustError):
    """A response redirects once more than ``max_redirects``."""


class AgentUser(User):
    """A Locust user with an :class:`AgentSession` as ``client``.

    Each user has connections of its own, as a browser has.
    """

    abstract = True

    #: Seconds without any traffic before a request fails.
    network_timeout: float = 120.0
    #: Seconds for connecting before a request fails.
    connection_timeout: float = 60.0
    #: Redirects that one request follows; one more is a failure.
    max_redirects: int = 5
    #: Whether certificates are not verified.
    insecure: bool = False
    #: The number of connections of one user to an origin.
    concurrency: int = 10
    #: Fields of all requests.
    default_headers: Mapping[str, str] = {}

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        if self.host is None:
            raise LocustError('AgentUser has no host; set the attribute host of the class, or use --host')
        self.client = AgentSession(
            self.host,
            environment.events.request,
            self,
            headers=self.default_headers,
            max_redirects=self.max_redirects,
            max_sockets=self.concurrency,
            insecure=self.insecure,
            timeout=self.network_timeout,
            connect_timeout=self.connection_timeout,
        )

    def on_stop(self) -> None:
        """Close the connections. A subclass that overrides this calls it."""
        self.client.close()


class AgentSession:
    """The ``client`` of an :class:`AgentUser`: it sends requests, follows redirects and keeps cookies.

    :param base_url: the URL before the paths of requests.
    :param request_event: Locust's event for requests.
    :param user: the user, for the context of events.
    :param headers: fields of all requests.
    :param max_redirects: redirects that one request follows.
    :param max_sockets: connections to one origin.
    :param insecure: whether certificates are not verified.
    :param timeout: seconds without any traffic before a request fails.
    :param connect_timeout: seconds for connecting before a request fails.
    """

    def __init__(
        self,
        base_url: str,
        request_event: Any,
        user: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        max_redirects: int = 5,
        max_sockets: int = 10,
        insecure: bool = False,
        timeout: float | None = None,
        connect_timeout: float | None = None,
    ) -> None:
        #: The URL before the paths of requests, without a slash at the end.
        self.base_url = base_url.rstrip('/')
        #: The fields of all requests; it can be changed.
        self.headers: dict[str, str] = dict(headers or {})
        #: The cookies, which can be read and changed.
        self.cookiejar = Cookies()
        #: The name of requests that have no name; None for their path.
        self.request_name: str | None = None
        self.max_redirects = max_redirects
        self._event = request_event
        self._user = user
        self._agents = {
            'http': http.Agent(max_sockets=max_sockets, keep_alive=True),
            'https': https.Agent(max_sockets=max_sockets, keep_alive=True, reject_unauthorized=not insecure),
        }
        times = {'timeout': timeout, 'connect_timeout': connect_timeout}
        # the client's own limits are the same; options that are given cost more
        defaults = {'timeout': 120.0, 'connect_timeout': 60.0}
        self._times = {name: value for name, value in times.items() if value is not None and value != defaults[name]}

    def close(self) -> None:
        """Close the connections. The session can be used again."""
        for agent in self._agents.values():
            agent.destroy()

    @contextmanager
    def rename_request(self, name: str) -> Iterator[None]:
        """Use ``name`` for the requests within the block that have no name."""
        before, self.request_name = self.request_name, name
        try:
            yield
        finally:
            self.request_name = before

    # -- requests -----------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        url: str,
        name: str | None = None,
        *,
        catch_response: bool = False,
        context: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        allow_redirects: bool = True,
        **options: Any,
    ) -> Response:
        """Send a request, and return its response with the body.

        Blocks until the response is complete. A failure of the connection is an entry in the statistics, and a response
        with the status 0.

        :param method: the method, such as ``'GET'``.
        :param url: a path, which follows ``base_url``, or a URL.
        :param name: the name of the entry in the statistics; the path by default.
        :param catch_response: whether the caller decides in a ``with`` block that it was a success or a failure.
        :param context: added to the context of the event.
        :param params: parameters of the query.
        :param data: the body: bytes, text, a mapping for a form, or anything that :func:`geventnode.http.request`
            takes.
        :param json: a value to be sent as JSON.
        :param headers: further fields.
        :param auth: the user and the password for Basic authentication.
        :param allow_redirects: whether redirects are followed.
        :param options: further options of :func:`geventnode.http.request`.
        :raises InvalidInput: a value cannot be sent.
        """
        if url[:1] == '/' or '://' not in url:
            target = f'{self.base_url}{url}' if url[:1] == '/' else f'{self.base_url}/{url}'
        else:
            target = url
        if params:
            target += ('&' if '?' in target else '?') + urlencode(params, doseq=True)
        fields = self.headers if headers is None else {**self.headers, **headers}
        if json is not None:
            data = json_library.dumps(json).encode()
            fields = {'Content-Type': 'application/json', **fields}
        elif isinstance(data, Mapping):
            data = urlencode(data, doseq=True).encode()
            fields = {'Content-Type': 'application/x-www-form-urlencoded', **fields}
        if auth is not None:
            options['auth'] = ':'.join(auth)
        if self._times:
            options = {**self._times, **options}
        response = Response(target)
        began = time()
        start = perf_counter()
        try:
            self._exchange(response, method, target, fields, data, allow_redirects, options)
        except (InvalidInput, InvalidHeader):
            raise
        except (GeventnodeError, OSError, TooManyRedirects) as error:
            response.error = error
        entry = {
            'request_type': method,
            'name': name or self.request_name or url,
            'response_time': (perf_counter() - start) * 1000,
            'response_length': len(response.body),
            'response': response,
            'context': self._context(context),
            'exception': response.failure_of_request(),
            'start_time': began,
            'url': response.url,
        }
        if catch_response:
            response._defer(self._event, entry)
        else:
            self._event.fire(**entry)
        return response

    def _context(self, own: Mapping[str, Any] | None) -> dict[str, Any]:
        found = {} if self._user is None else self._user.context()
        return {**found, **own} if own else found

    def get(self, url: str, **options: Any) -> Response:
        """Send a GET request; see :meth:`request`. Blocks until the response is complete."""
        return self.request('GET', url, **options)

    def head(self, url: str, **options: Any) -> Response:
        """Send a HEAD request, without following redirects. Blocks until the response is complete."""
        return self.request('HEAD', url, **{'allow_redirects': False, **options})

    def options(self, url: str, **options: Any) -> Response:
        """Send an OPTIONS request; see :meth:`request`. Blocks until the response is complete."""
        return self.request('OPTIONS', url, **options)

    def delete(self, url: str, **options: Any) -> Response:
        """Send a DELETE request; see :meth:`request`. Blocks until the response is complete."""
        return self.request('DELETE', url, **options)

    def post(self, url: str, data: Any = None, json: Any = None, **options: Any) -> Response:
        """Send a POST request; see :meth:`request`. Blocks until the response is complete."""
        return self.request('POST', url, data=data, json=json, **options)

    def put(self, url: str, data: Any = None, **options: Any) -> Response:
        """Send a PUT request; see :meth:`request`. Blocks until the response is complete."""
        return self.request('PUT', url, data=data, **options)

    def patch(self, url: str, data: Any = None, **options: Any) -> Response:
        """Send a PATCH request; see :meth:`request`. Blocks until the response is complete."""
        return self.request('PATCH', url, data=data, **options)

    # -- one request, with its redirects ------------------------------------------------------------------------------

    def _exchange(
        self,
        response: Response,
        method: str,
        url: str,
        fields: Mapping[str, str],
        body: Any,
        follow: bool,
        options: dict[str, Any],
    ) -> None:
        """Fill ``response`` with the final response. Blocks until it is complete."""
        remaining = self.max_redirects
        while True:
            message = self._send(method, url, fields, body, options)
            response._take(url, message)
            location = message.headers.get('location')
            if not follow or location is None or message.status_code not in REDIRECTS:
                return
            if not remaining:
                raise TooManyRedirects(
                    f'{self.max_redirects} redirects were followed (max_redirects), and one more came'
                )
            remaining -= 1
            before, url = url, urljoin(url, location)
            if message.status_code == 303 or (message.status_code in (301, 302) and method == 'POST'):
                # RFC 9110, sections 15.4.2 to 15.4.4
                method = method if method == 'HEAD' else 'GET'
                body = None
                fields = {name: value for name, value in fields.items() if name.lower() not in _BODY_FIELDS}
            elif body is not None and not isinstance(body, (bytes, str)):
                raise InvalidInput('a redirect asks for the body again, and it can be read only once; pass bytes')
            if urlsplit(url)[:2] != urlsplit(before)[:2]:
                fields = {name: value for name, value in fields.items() if name.lower() not in _CREDENTIALS}
                options = {name: value for name, value in options.items() if name != 'auth'}

    def _send(
        self, method: str, url: str, fields: Mapping[str, str], body: Any, options: dict[str, Any]
    ) -> http.IncomingMessage:
        """Return a response with its body, which is buffered. Blocks until it is complete."""
        secure = url[:6].lower() == 'https:'
        agent = self._agents['https' if secure else 'http']
        cookies = self.cookiejar.field_for(url)
        if cookies is not None and not any(name.lower() == 'cookie' for name in fields):
            fields = {**fields, 'Cookie': cookies}
        make: Callable[..., http.ClientRequest] = https.get if secure else http.get
        if method != 'GET' or body is not None:
            options = {**options, 'method': method, 'body': body}
        message = make(url, agent=agent, headers=fields, **options).get_response()
        if 'set-cookie' in message.headers:
            received: Any = _Received(message)
            self.cookiejar.extract_cookies(received, Request(url))
        return message


class Cookies(CookieJar):
    """A ``CookieJar`` that keeps the Cookie fields of requests.

    ``http.cookiejar`` applies its policy to each cookie for each request, which takes nearly as long as the request. So
    the field is kept for its origin, and also for its path if any cookie is limited to a path. It is computed again if
    a cookie or the policy has changed, or a cookie has expired. Fields of another policy than ``DefaultCookiePolicy``
    are not kept.
    """

    # An attribute of CookieJar, which typeshed does not declare.
    _policy: Any

    def __init__(self, policy: Any = None) -> None:
        super().__init__(policy)
        self._fields: dict[str, str | None] = {}
        # The state that the fields were computed from: the attributes of the cookies and of the policy.
        self._seen: list[tuple[Cookie, dict[str, Any]]] = []
        self._seen_policy: dict[str, Any] = {}
        self._by_path = False
        self._expires = 0.0

    def set_cookie(self, cookie: Cookie) -> None:
        """Add a cookie, or replace one."""
        self._expires = 0.0
        super().set_cookie(cookie)

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        """Remove cookies: all of them, or those of a domain, a path or a name."""
        self._expires = 0.0
        super().clear(domain, path, name)

    def field_for(self, url: str) -> str | None:
        """Return the Cookie field of a request.

        :param url: the whole URL, with its scheme.
        """
        if not self._is_current():
            self._forget_fields()
        if not self._seen:
            return None
        # to the slash after the host, or to the query
        key = url.partition('?')[0] if self._by_path else url[: url.find('/', 8) + 1] or url
        if key not in self._fields:
            if len(self._fields) >= _MAX_FIELDS:
                self._fields.clear()
            request: Any = Request(url)
            self.add_cookie_header(request)
            self._fields[key] = request.get_header('Cookie')
            # it has the time of the last use, too
            self._seen_policy = dict(vars(self._policy))
        return self._fields[key]

    def _is_current(self) -> bool:
        """Return whether nothing has changed since the fields were computed."""
        return (
            time() < self._expires
            and vars(self._policy) == self._seen_policy
            and type(self._policy) is DefaultCookiePolicy
            and all(vars(cookie) == seen for cookie, seen in self._seen)
        )

    def _forget_fields(self) -> None:
        self._fields.clear()
        self._seen_policy = dict(vars(self._policy))
        self._seen = [(cookie, dict(vars(cookie))) for cookie in self]
        self._by_path = any(cookie.path != '/' for cookie, _ in self._seen)
        ends = [cookie.expires for cookie, _ in self._seen if cookie.expires is not None]
        self._expires = min(ends, default=inf)


class _Received:
    """The fields of a response, as ``http.cookiejar`` reads them."""

    def __init__(self, message: http.IncomingMessage) -> None:
        self._fields = message.headers_distinct

    def info(self) -> _Received:
        """Return the object that has the fields."""
        return self

    def get_all(self, name: str, default: Any = None) -> Any:
        """Return the values of a field."""
        return self._fields.get(name.lower(), default)


class Response:
    """A complete response, or the reason why there is none.

    With ``catch_response`` it is a context manager: the entry in the statistics is made at the end of the block. A
    ``ResponseError`` in the block is a failure.
    """

    def __init__(self, url: str) -> None:
        #: The URL of the last request, after redirects.
        self.url = url
        #: The status; 0 without a response.
        self.status_code = 0
        self.reason = ''
        #: The fields; the names ignore case.
        self.headers: Mapping[str, Any] = {}
        #: The body as it was received.
        self.body = b''
        #: The reason why there is no response; None if there is one.
        self.error: Exception | None = None
        self._event: Any = None
        self._entry: dict[str, Any] = {}
        self._decided = False

    def _take(self, url: str, message: http.IncomingMessage) -> None:
        """Take the properties and the body of ``message``. Blocks until the body has arrived."""
        self.url = url
        # not before the body is complete: a response that is cut off is a failure
        body = message.read()
        self.status_code = message.status_code or 0
        self.reason = message.status_message or ''
        self.headers = message.headers
        self.body = body

    @property
    def content(self) -> bytes:
        """The body, decoded if its coding is gzip or deflate. Raises ``zlib.error`` for other bytes."""
        coding = self.headers.get('content-encoding', '')
        if coding in ('gzip', 'x-gzip', 'deflate'):
            # 32: either header, of zlib or of gzip
            return zlib.decompress(self.body, zlib.MAX_WBITS | 32)
        return self.body

    @property
    def text(self) -> str:
        """The body as text, in the character set of its Content-Type, or in UTF-8."""
        _, _, rest = self.headers.get('content-type', '').lower().partition('charset=')
        charset = rest.partition(';')[0].strip(' "') or 'utf-8'
        try:
            return self.content.decode(charset, 'replace')
        except LookupError:
            return self.content.decode('utf-8', 'replace')

    def json(self) -> Any:
        """Return the value of a JSON body. Raises ``ValueError``."""
        return json_library.loads(self.content)

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return 0 < self.status_code < 400

    def failure_of_request(self) -> Exception | None:
        """Return the reason why the request is a failure; None for a success."""
        if self.error is not None:
            return self.error
        return None if self.ok else CatchResponseError(f'{self.status_code} {self.reason}'.rstrip())

    def raise_for_status(self) -> None:
        """Raise the reason why the request is a failure, if it is one."""
        failure = self.failure_of_request()
        if failure is not None:
            raise failure

    # -- catch_response -----------------------------------------------------------------------------------------------

    def _defer(self, event: Any, entry: dict[str, Any]) -> None:
        self._event, self._entry = event, entry

    def success(self) -> None:
        """Make the request a success in the statistics."""
        self._decide(None)

    def failure(self, reason: Any) -> None:
        """Make the request a failure in the statistics.

        :param reason: an exception, or text.
        """
        self._decide(reason if isinstance(reason, Exception) else CatchResponseError(reason))

    def _decide(self, failure: Exception | None) -> None:
        if self._event is None:
            raise LocustError('success() and failure() need catch_response=True, and a with block')
        self._decided = True
        self._entry['exception'] = failure

    def __enter__(self) -> Response:
        if self._event is None:
            raise LocustError('a response is a context manager with catch_response=True only')
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> bool:
        # as in Locust: a decision outweighs an exception, and other exceptions propagate without an entry
        if not self._decided and error is not None:
            if not isinstance(error, ResponseError):
                return False
            self._entry['exception'] = error
        self._event.fire(**self._entry)
        return True
