"""The demo that ``geventnode serve`` shows when it is given nothing else: one page, and streams behind it.

======================= ============================================================================================
``/``                   the page, one file without anything from elsewhere
``/events``             an event stream that ticks each second
``/progress?id=...``    an event stream that tells how much of an upload has arrived, while it arrives
``/upload[?id=...]``    takes the upload and counts it
``/request``            the request as the server saw it
======================= ============================================================================================

It is also an example of how to write for this server: every handler is plain sequential code, and what it waits for
includes the end of its audience.
"""

from geventnode.cli.demo.site import DemoServer, create_server

__all__ = ['DemoServer', 'create_server']
