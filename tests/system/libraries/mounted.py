"""Sessions for the scripts in this folder: with agents of geventnode, or plain ones.

A script is started as ``script.py PLAIN|AGENTS|PATCHED URL``, imports this first, and prints its results as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

WAY, URL = sys.argv[1:3]
if WAY == 'PATCHED':
    from gevent import monkey

    monkey.patch_all()

import requests  # noqa: E402 - after patching
from requests.adapters import HTTPAdapter  # noqa: E402 - after patching

from geventnode.integrations.requests import AgentAdapter  # noqa: E402 - after patching

__all__ = ['URL', 'Adapter', 'mount', 'say', 'session']

Adapter: type[HTTPAdapter] = HTTPAdapter if WAY == 'PLAIN' else AgentAdapter


def mount(made: Any, adapter: HTTPAdapter | None = None) -> Any:
    """Mount ``adapter`` on a session, and return the session."""
    made.trust_env = False
    made.mount('http://', adapter or Adapter())
    return made


def session() -> requests.Session:
    """Return a session of ``requests``."""
    made: requests.Session = mount(requests.Session())
    return made


def say(what: object) -> None:
    """Print a value as JSON, with bytes."""
    sys.stdout.write(json.dumps(what, default=lambda value: value.decode('latin-1')))
