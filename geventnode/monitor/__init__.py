"""The monitor: a page of live figures about the servers and agents of a process."""

from geventnode.monitor.listener import DEFAULT_PATH, MAX_WATCHERS, Monitor, check_path

__all__ = ['DEFAULT_PATH', 'MAX_WATCHERS', 'Monitor', 'check_path']
