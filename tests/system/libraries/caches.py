"""Caches in adapters and in sessions store the sent bytes, with every method of reading."""

from __future__ import annotations

import hashlib
from typing import Any

from mounted import URL, Adapter, mount, say

# isort: split
import requests
import requests_cache
from cachecontrol import CacheControlAdapter


class Cached(CacheControlAdapter, Adapter):  # type: ignore[misc,valid-type]
    """A cache on top of the mounted adapter."""


def kept(client: requests.Session, path: str, stream: bool) -> list[Any]:
    """Return the first and the second response of a resource."""
    found: list[Any] = []
    for _ in range(2):
        response: Any = client.get(f'{URL}/cached/{path}', stream=stream)
        body = b''.join(response.iter_content(100)) if stream else response.content
        found += [response.from_cache, len(body), hashlib.sha256(body).hexdigest()]
    return found


say(
    {
        f'{name} {path} {stream}': kept(make(), path, stream)
        for name, make in (
            ('CacheControl', lambda: mount(requests.Session(), Cached())),
            ('requests-cache', lambda: mount(requests_cache.CachedSession(backend='memory'))),
        )
        for path in ('length', 'chunked', 'gzip', 'tag')
        if (name, path) != ('requests-cache', 'tag')
        for stream in (False, True)
    }
)
