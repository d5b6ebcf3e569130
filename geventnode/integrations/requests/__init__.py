"""``requests`` on geventnode's client: ``session.mount('https://', AgentAdapter())``."""

from geventnode.integrations.requests.adapter import AgentAdapter

__all__ = ['AgentAdapter']
