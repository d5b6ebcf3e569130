"""Resolve references to names that the pages describe elsewhere: contracts, and inherited members.

A reference to ``geventnode.http.ServerResponse.write`` leads to the base class that describes the method, as does
``write`` inside of the class. A contract is found by its public name and by the module that defines it.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from typing import Any

__all__ = ['setup']


def find(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Return the link for a reference that Sphinx has not resolved, or None."""
    if node.get('refdomain') != 'py':
        return None
    named, module, owner = (node.get(name) or '' for name in ('reftarget', 'py:module', 'py:class'))
    domain = env.get_domain('py')
    for name in dict.fromkeys((named, f'{module}.{named}', f'{owner}.{named}', f'{module}.{owner}.{named}')):
        for target in described_names(domain.objects, name):
            if target in domain.objects:
                return domain.resolve_xref(
                    env, node['refdoc'], app.builder, domain.objects[target].objtype, target, node, contnode
                )
    return None


def described_names(objects: dict[str, Any], name: str) -> list[str]:
    """Return the names under which the pages can describe an object."""
    names = [re.sub(r'^geventnode\.interfaces\.\w+\.(?=I[A-Z])', 'geventnode.interfaces.', name)]
    classes = [(imported(each), each) for each, entry in objects.items() if entry.objtype == 'class']
    holder, _, member = name.rpartition('.')
    kind = imported(holder)
    if isinstance(kind, type):
        # a private base has its members in the description of another class
        definer = next((base for base in kind.__mro__ if member in vars(base)), None)
        bases = [*kind.__mro__, *(each for each, _ in classes if definer in getattr(each, '__mro__', ()))]
        names += [f'{described}.{member}' for base in bases for each, described in classes if each is base]
    elif hasattr(kind, '__iro__'):
        names += [f'geventnode.interfaces.{base.__name__}.{member}' for base in kind.__iro__]
    found = imported(name)
    names += [described for each, described in classes if each is found]
    return names


def imported(name: str) -> Any:
    """Return the object with a dotted name, or None."""
    parts = name.strip('.').split('.')
    for length in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError, AttributeError, ValueError):
            found: Any = importlib.import_module('.'.join(parts[:length]))
            for part in parts[length:]:
                found = getattr(found, part)
            return found
    return None


def setup(app: Any) -> dict[str, bool]:
    """Connect :func:`find`; Sphinx calls this."""
    app.connect('missing-reference', find)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
