"""Node's client with ``geventnode serve``, and the names of Node's ``http`` in the documentation."""

from __future__ import annotations

import json
import re

from tests.code_blocks import ROOT
from tests.system.running import APPS, Served, run

#: Write the public names of ``http``, of its classes, and of servers and agents, which have their options.
NAMES = """
const http = require('http')
const classes = ['Server', 'ServerResponse', 'OutgoingMessage', 'IncomingMessage', 'ClientRequest', 'Agent']
const names = [http, http.createServer(), new http.Agent()].flatMap(Object.keys)
for (const name of classes) names.push(...Object.getOwnPropertyNames(http[name].prototype))
console.log(JSON.stringify(names.filter(name => !name.startsWith('_'))))
"""

#: Names that Node's documentation does not have.
INTERNAL = {
    *('addRequest', 'assignSocket', 'constructor', 'createSocket', 'detachSocket', 'httpAllowHalfOpen', 'onSocket'),
    *('options', 'removeSocket'),
}


def test_node_client_passes_its_checks() -> None:
    with Served('handlers:listener') as served:
        passed = run('node', APPS / 'client.js', served.url).splitlines()
    assert passed == [
        'a thousand requests on kept connections',
        'a chunked request body',
        'trailers both ways',
        'HEAD has the headers and no body',
        'Expect: 100-continue',
        'pipelined requests are answered in order',
    ]


def test_each_name_of_node_is_documented() -> None:
    """Here, or the reason why not."""
    page = (ROOT / 'docs' / 'moving' / 'node.rst').read_text('utf-8')
    literals = ' '.join(re.findall('``([^`]+)``', page))
    mentioned = set(re.findall(r'\w+', literals))
    assert set(json.loads(run('node', '-e', NAMES))) - mentioned - INTERNAL == set()
