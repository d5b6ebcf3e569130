"""Elasticsearch's client over its requests node: plain, and with an adapter of agents."""

from __future__ import annotations

import os
import sys
from typing import Any

from mounted import URL, WAY, Adapter, say

# isort: split
import gevent
from elastic_transport import RequestsHttpNode
from elasticsearch import ApiError, ConnectionTimeout, Elasticsearch, helpers
from elasticsearch import ConnectionError as LostConnection

SECURED, AUTHORITY = sys.argv[3:5]

# requests prefers the authorities of these variables to those of the client
for name in ('REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'):
    os.environ.pop(name, None)


class AgentHttpNode(RequestsHttpNode):
    """A node with connections of geventnode's agents."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if WAY != 'PLAIN' and config.ssl_assert_fingerprint is None and config.ssl_context is None:
            self.session.mount(f'{self.scheme}://', Adapter(max_sockets=config.connections_per_node))


def client(url: str = URL, **options: Any) -> Elasticsearch:
    return Elasticsearch(url, node_class=AgentHttpNode, max_retries=0, **options)


def failure(call: Any) -> str:
    """Return the class of the error of ``call``."""
    try:
        call()
    except (ApiError, LostConnection, ConnectionTimeout) as error:
        return type(error).__name__
    return 'none'


elastic = client()
documents = [{'_index': 'index', '_id': number, 'text': 'ä' * 100} for number in range(500)]
say(
    {
        'info': elastic.info()['version']['number'],
        'indexed': elastic.index(index='index', id='1', document={'text': 'ä'})['result'],
        'bulk': helpers.bulk(elastic, documents, chunk_size=100)[0],
        'found': elastic.search(index='index', query={'match_all': {}})['hits']['total']['value'],
        'missing': failure(lambda: elastic.get(index='index', id='none')),
        'late': failure(lambda: client(request_timeout=0.2).get(index='index', id='late')),
        'lost': failure(lambda: elastic.get(index='index', id='lost')),
        'secured': client(SECURED, ca_certs=AUTHORITY).info()['version']['number'],
        'not trusted': failure(lambda: client(SECURED).info()),
        'refused': failure(lambda: client('http://127.0.0.1:1').info()),
        # AGENTS waits cooperatively without patching
        'together': WAY == 'PLAIN'
        or {job.get()['_id'] for job in [gevent.spawn(elastic.get, index='index', id='gate') for _ in range(5)]}
        == {'gate'},
    }
)
