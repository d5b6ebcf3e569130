#!/bin/sh
# With dnspython 2, gevent's resolver "dnspython" resolves no name that is not in the hosts file.
#
# GEVENT_RESOLVER=dnspython can be chosen with any dnspython. gevent's extra requires dnspython 1.16 below Python 3.10 and
# installs none above, where users take the current one. With dnspython 2.9.2, getaddrinfo() of gevent 26.9.0 raises
# EAI_AGAIN for a name that the resolver "thread" finds in the same environment. Names of the hosts file still work, so a
# test with localhost passes, and "temporary failure" suggests that the network is at fault. Needs a name server, as pip
# does.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gevent==26.9.0 dnspython==2.9.2
cat > "$work/show.py" <<'PYTHON'
import importlib.metadata
import sys

import gevent.socket


def resolve(name):
    """Return the outcome of looking up a name."""
    try:
        return 'found' if gevent.socket.getaddrinfo(name, 80) else 'nothing'
    except gevent.socket.gaierror as error:
        return {gevent.socket.EAI_AGAIN: 'EAI_AGAIN', gevent.socket.EAI_NONAME: 'EAI_NONAME'}.get(error.errno, error)


resolver = type(gevent.get_hub().resolver).__module__.rpartition('.')[2]
versions = [f'{name} {importlib.metadata.version(name)}' for name in ('gevent', 'dnspython')]
found = resolve('localhost'), resolve('pypi.org')
print(*versions, resolver, *found)
assert found == {'thread': ('found', 'found'), 'dnspython': ('found', 'EAI_AGAIN')}[resolver], found
PYTHON
for resolver in thread dnspython; do
    GEVENT_RESOLVER=$resolver "$work/venv/bin/python" "$work/show.py"
done
# gevent 26.9.0 dnspython 2.9.2 thread found found
# gevent 26.9.0 dnspython 2.9.2 dnspython found EAI_AGAIN
