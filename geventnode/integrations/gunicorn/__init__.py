"""A worker for gunicorn: ``gunicorn -k geventnode.integrations.gunicorn.Worker app:app``."""

from geventnode.integrations.gunicorn.logger import JSONAccessLogger
from geventnode.integrations.gunicorn.worker import ListenerWorker, NotServable, Worker, WSGIWorker, run

__all__ = ['JSONAccessLogger', 'ListenerWorker', 'NotServable', 'WSGIWorker', 'Worker', 'run']
