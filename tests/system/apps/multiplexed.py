"""Targets that respond only when several requests are in progress at the same time."""

from __future__ import annotations

import time

from gevent.event import Event

__all__ = ['application', 'listener']

PAGE = b"""<!doctype html><title>waiting</title><p id="told"></p><script>
new EventSource('/events').onmessage = (event) => {
  document.title = event.data;
  document.querySelector('#told').textContent = event.data;
};
</script>"""


class Meeting:
    """Let greenlets wait until there is a number of them.

    :param size: the number.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._complete = Event()
        self._present = 0

    def wait(self) -> None:
        """Block until all are present."""
        self._present += 1
        if self._present == self._size:
            self._complete.set()
        self._complete.wait()


three, ten, sleepers = Meeting(3), Meeting(10), Meeting(3)


def listener(request, response) -> None:
    if request.url == '/together':
        three.wait()
        response.end(f'{request.http_version} {request.socket.remote_port}\n')
    elif request.url == '/events':
        response.write_head(200, {'Content-Type': 'text/event-stream'})
        response.write(': begun\n\n')
        ten.wait()
        response.write(f'data: ten at once by HTTP/{request.http_version}\n\n')
        # until the tab is closed
        left = Event()
        response.on('close', left.set)
        left.wait()
    else:
        response.write_head(200, {'Content-Type': 'text/html'})
        response.end(PAGE)


def application(environ, start_response):
    if environ['PATH_INFO'] == '/sleep':
        # each would take its second after the other without HTTP/2 streams beside each other
        sleepers.wait()
        time.sleep(1)
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [f'{environ["SERVER_PROTOCOL"]} {environ["REMOTE_PORT"]}\n'.encode()]
