"""The Django project, with the answer to balancers in front of it, as ``contrib/deploy`` has it."""

from __future__ import annotations

from django_site import application

from geventnode.http import readiness
from geventnode.integrations.wsgi import wsgi

__all__ = ['listener']

listener = readiness(wsgi(application))
