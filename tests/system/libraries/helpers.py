"""requests-toolbelt, and libraries that mock responses in tests."""

from __future__ import annotations

import io
from typing import Any

from mounted import URL, Adapter, mount, say, session

# isort: split
import requests
import requests_mock
import responses
from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor, StreamingIterator
from requests_toolbelt.adapters.fingerprint import FingerprintAdapter
from requests_toolbelt.adapters.host_header_ssl import HostHeaderSSLAdapter
from requests_toolbelt.adapters.source import SourceAddressAdapter
from requests_toolbelt.downloadutils import tee
from requests_toolbelt.utils import dump


class HostNamed(HostHeaderSSLAdapter, Adapter):  # type: ignore[misc,valid-type]
    """The Host field names the certificate."""


class Printed(FingerprintAdapter, Adapter):  # type: ignore[misc,valid-type]
    """The fingerprint of a certificate is given."""


class From(SourceAddressAdapter, Adapter):  # type: ignore[misc,valid-type]
    """The local address is given."""


def uploaded() -> list[Any]:
    """Send a form that reports its progress."""
    progress: list[int] = []
    form = MultipartEncoder({'name': 'value', 'file': ('name', io.BytesIO(b'x' * 100000))}, boundary='border')
    sent = MultipartEncoderMonitor(form, lambda monitor: progress.append(monitor.bytes_read))
    answer = session().post(f'{URL}/echo', data=sent, headers={'Content-Type': sent.content_type})
    return [len(answer.content), answer.headers['framing'], progress[-1]]


def streamed() -> list[Any]:
    """Send a generator with a known length."""
    answer = session().post(f'{URL}/echo', data=StreamingIterator(300, iter([b'x' * 100] * 3)))
    return [answer.content, answer.headers['framing']]


def mocked() -> list[str]:
    """Get mocked responses."""
    with responses.RequestsMock() as mock:
        mock.add('GET', f'{URL}/mocked', body='by responses')
        answers = [session().get(f'{URL}/mocked').text]
    asking = session()
    with requests_mock.Mocker(session=asking) as mock:
        mock.get(f'{URL}/mocked', text='by requests-mock')
        return [*answers, asking.get(f'{URL}/mocked').text]


say(
    {
        'uploaded': uploaded(),
        'streamed': streamed(),
        'mocked': mocked(),
        'dumped': b'< HTTP/1.1 200 OK' in dump.dump_all(session().get(f'{URL}/cached/length')),
        'copied': sum(map(len, tee.tee(session().get(f'{URL}/cached/chunked', stream=True), io.BytesIO()))),
        'source': mount(requests.Session(), From('127.0.0.2')).get(f'{URL}/address').text,
        'adapters': [
            mount(requests.Session(), adapter).get(f'{URL}/cached/length', headers={'Host': 'a.example'}).ok
            for adapter in (HostNamed(), Printed('aa' * 32))
        ],
    }
)
