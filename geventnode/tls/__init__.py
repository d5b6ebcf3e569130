"""TLS: sockets and servers that encrypt, on top of those of :mod:`geventnode.net`.

This is the only layer that imports ``ssl``, because a program that patches the standard library must do so first.
"""

from geventnode.tls.client import connect
from geventnode.tls.server import Server, create_server
from geventnode.tls.socket import TLSSocket

__all__ = ['Server', 'TLSSocket', 'connect', 'create_server']
