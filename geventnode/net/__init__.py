"""Stream connections, TCP and Unix, and servers that accept them: Node's ``net`` on gevent's loop."""

from geventnode.net.server import Server, create_server
from geventnode.net.socket import Socket, connect

create_connection = connect

__all__ = ['Server', 'Socket', 'connect', 'create_connection', 'create_server']
