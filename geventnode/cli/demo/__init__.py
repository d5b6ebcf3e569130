"""The demo of ``geventnode serve`` without a target: a page, and the streams that it shows.

======================= ============================================================================================
``/``                   the page, one file without external resources
``/events``             an event stream that ticks each second, and reports changes of the server and its pool
``/pool?requests=...``  makes requests to ``/slow`` through the pool, at most ``max_sockets=...`` at a time
``/slow``               a response that takes a fifth of a second
``/progress?id=...``    an event stream of the progress of an upload
``/upload[?id=...]``    receives an upload and counts its bytes
``/request``            the request as the server saw it
======================= ============================================================================================

The demo is also an example of a program for this server: every handler is plain sequential code, and a handler that
waits also waits for its client to disconnect.
"""

from geventnode.cli.demo.site import DemoServer, create_server

__all__ = ['DemoServer', 'create_server']
