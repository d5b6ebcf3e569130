"""The Django project with ``/healthz`` for load balancers, as in ``contrib/deploy``."""

from __future__ import annotations

from django_site import application

from geventnode.http import readiness
from geventnode.integrations.wsgi import wsgi

__all__ = ['listener']

listener = readiness(wsgi(application))
