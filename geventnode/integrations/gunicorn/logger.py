"""Write gunicorn's access log as JSON: ``logger_class = 'geventnode.integrations.gunicorn.JSONAccessLogger'``."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger

from geventnode.http.server.access_log import json_access_line

__all__ = ['JSONAccessLogger']


class JSONAccessLogger(Logger):
    """Write a JSON object for each response to gunicorn's access log.

    The fields are those of ``geventnode serve --access-log-format json``: see :doc:`/logging`. ``access_log_format``
    has no effect. The error log remains gunicorn's own. For the workers of this package only.
    """

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """Write one line, if the access log is enabled. Called by the worker."""
        # gunicorn 23 does not have the attribute
        if getattr(self, 'access_log_enabled', True) and self.access_log.hasHandlers():
            self.access_log.info('%s', json_access_line(resp.response, resp.status_code))
