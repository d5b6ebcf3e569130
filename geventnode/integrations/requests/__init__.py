"""``requests`` on geventnode's client: ``session.mount('https://', AgentAdapter())``."""

from geventnode.extras import missing_package

try:
    from geventnode.integrations.requests.adapter import AgentAdapter
except ModuleNotFoundError as error:
    raise missing_package(error, __name__, 'requests') from error

__all__ = ['AgentAdapter']
