"""WSGI applications as request listeners (PEP 3333): ``http.create_server(wsgi(app))``."""

from geventnode.integrations.wsgi.application import (
    Application,
    FileWrapper,
    Listener,
    StartResponse,
    check_application,
    is_wsgi,
    wsgi,
)

__all__ = ['Application', 'FileWrapper', 'Listener', 'StartResponse', 'check_application', 'is_wsgi', 'wsgi']
