"""The WSGI application that ``SITE`` names, with limits that a test reaches quickly."""

from __future__ import annotations

import importlib
import os

from geventnode import http
from geventnode.integrations.wsgi import wsgi

__all__ = ['server']

module, _, name = os.environ['SITE'].partition(':')
server = http.create_server(
    wsgi(getattr(importlib.import_module(module), name)), max_body_size=1000, request_timeout=0.5
)
