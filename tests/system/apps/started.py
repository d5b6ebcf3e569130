"""A request listener that describes its process: the place, the loaded modules, the patched ones, its descriptors."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import gevent.monkey

__all__ = ['application', 'described', 'listener']

#: Before the target is served.
LOADED = sorted(sys.modules)
PATCHED = sorted(name for name in sys.modules if gevent.monkey.is_module_patched(name))


def described() -> dict[str, Any]:
    """Return the description."""
    return {
        'argv': sys.argv,
        'orig_argv': sys.orig_argv,
        'path': sys.path,
        'cwd': os.getcwd(),
        'environment': dict(os.environ),
        'loaded': LOADED,
        'patched': PATCHED,
        'main': sys.modules['__main__'].__spec__.name,
        'descriptors': sorted(os.listdir('/proc/self/fd')),
        'session': os.getsid(0),
    }


def listener(request: Any, response: Any) -> None:
    """Respond with the description."""
    response.end(json.dumps(described()))


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The same, for WSGI servers."""
    start_response('200 OK', [])
    return [json.dumps(described()).encode()]
