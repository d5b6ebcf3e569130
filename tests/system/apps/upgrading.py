"""A server that responds by path, and upgrades to another protocol on request."""

from __future__ import annotations

from contrib.examples.upgrade import switch_protocols
from geventnode import http
from tests.system.apps.handlers import listener

__all__ = ['server']

server = http.create_server(listener)
server.on('upgrade', switch_protocols)
