"""A worker for gunicorn: ``gunicorn -k geventnode.integrations.gunicorn.Worker app:app``."""

from geventnode.extras import missing_package

try:
    from geventnode.integrations.gunicorn.logger import JSONAccessLogger
    from geventnode.integrations.gunicorn.worker import ListenerWorker, NotServable, Worker, WSGIWorker, run
except ModuleNotFoundError as error:
    raise missing_package(error, __name__, 'gunicorn') from error

__all__ = ['JSONAccessLogger', 'ListenerWorker', 'NotServable', 'WSGIWorker', 'Worker', 'run']
