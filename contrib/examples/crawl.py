"""Fetch a site page by page, a few at a time: plain sequential code in greenlets over a bounded agent.

A page takes two calls, ``http.get`` and ``response.read``. The agent limits the connections and keeps them alive;
greenlets without a connection wait for one, so this code counts and queues nothing.

    python contrib/examples/crawl.py [URL; otherwise a site in this process]
"""

from __future__ import annotations

import re
import sys
from typing import NamedTuple
from urllib.parse import urldefrag, urljoin, urlsplit

import gevent

from geventnode import http
from geventnode.errors import GeventnodeError

__all__ = ['Page', 'crawl', 'create_site', 'main']

#: The most bytes of a page that are read; the rest is discarded.
MAX_PAGE = 2**20

_link = re.compile(rb'<a\s[^>]*?href="([^"]*)"', re.IGNORECASE)


class Page(NamedTuple):
    """The result for a page."""

    #: None if there was no response.
    status: int | None
    body: bytes


def crawl(start: str, agent: http.Agent, max_pages: int = 1000) -> dict[str, Page]:
    """Return the pages of one site that can be reached from ``start``, by URL, at most ``max_pages``."""
    pages: dict[str, Page] = {}
    seen = {start}
    found = [start]
    while found:
        fetched = [gevent.spawn(fetch, url, agent) for url in found]
        pages |= dict(zip(found, (greenlet.get() for greenlet in fetched), strict=True))
        links = [link for url in found for link in links_of(url, pages[url].body)]
        found = [link for link in dict.fromkeys(links) if link not in seen][: max_pages - len(seen)]
        seen.update(found)
    return pages


def fetch(url: str, agent: http.Agent) -> Page:
    """Return the page at ``url``; report a failure, and continue with the other pages."""
    try:
        with http.get(url, agent=agent, deadline=60) as response:
            return Page(response.status_code, response.read(MAX_PAGE))
    except GeventnodeError as error:
        print(f'{url}: {error}', file=sys.stderr)
        return Page(None, b'')


def links_of(url: str, body: bytes) -> list[str]:
    """Return the pages of the same site that ``body`` links to."""
    links = [urldefrag(urljoin(url, link.decode('utf-8', 'replace'))).url for link in _link.findall(body)]
    return [link for link in links if urlsplit(link)[:2] == urlsplit(url)[:2]]


def create_site(pages: int) -> http.Server:
    """Return a site, not yet listening, on which page n links to the pages 2n and 2n + 1."""

    def show(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        number = int(request.url[1:] or 1)
        if not 0 < number <= pages:
            response.write_head(404)
            response.end('There is no such page.')
            return
        response.write_head(200, {'Content-Type': 'text/html'})
        response.end(''.join(f'<a href="/{link}">{link}</a>' for link in (2 * number, 2 * number + 1)))

    return http.create_server(show)


def main(start: str | None = None) -> None:
    """Crawl, and print the pages."""
    with create_site(100) as site, http.Agent(max_sockets=4, keep_alive=True) as agent:
        site.listen(0, '127.0.0.1')
        pages = crawl(start or f'http://127.0.0.1:{site.address()["port"]}/1', agent)
        for url, page in pages.items():
            print(page.status, len(page.body), url)
        print(agent.statistics())


if __name__ == '__main__':
    main(*sys.argv[1:2])
