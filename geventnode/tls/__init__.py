"""TLS sockets and servers, on top of those of :mod:`geventnode.net`.

This is the lowest layer that imports ``ssl``: a program that patches the standard library must do so before.
"""

from geventnode.tls.client import connect
from geventnode.tls.server import Server, create_server
from geventnode.tls.socket import TLSSocket

__all__ = ['Server', 'TLSSocket', 'connect', 'create_server']
