"""The monitor: a page with live figures of servers and agents."""

from geventnode.monitor.listener import DEFAULT_PATH, MAX_WATCHERS, Monitor, check_path

__all__ = ['DEFAULT_PATH', 'MAX_WATCHERS', 'Monitor', 'check_path']
