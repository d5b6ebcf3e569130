"""Configure Sphinx, which runs with ``-n -W``: every dead reference is an error."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from geventnode import __version__, interfaces

# directives.py is beside this file.
sys.path.insert(0, str(Path(__file__).parent))

project = 'geventnode'
author = 'the geventnode developers'
copyright = '2026, the geventnode developers'  # noqa: A001 - Sphinx's name for it
version = release = __version__

extensions = ['sphinx.ext.autodoc', 'repoze.sphinx.autointerface', 'directives']
html_theme = 'furo'
html_title = f'geventnode {release}'
exclude_patterns = ['_build']
default_role = None
# The docstrings describe parameters and return values.
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
# The documentation of the standard library is not available offline.
nitpick_ignore_regex = [
    ('py:.*', r'(collections\.abc|typing|socket|ssl|io)\..*'),
    # internal classes, as the types of attributes
    ('py:class', r'geventnode\.http\.(client|server)\..*'),
]


def find_contract(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve contracts by their public name, and inherited methods in the contract that defines them."""
    named = node.get('reftarget', '')
    target = re.sub(r'^geventnode\.interfaces\.\w+\.(?=I[A-Z])', 'geventnode.interfaces.', named)
    contract = getattr(interfaces, (node.get('py:class') or '').rpartition('.')[2], None)
    if contract is not None and named in contract.names(all=True):
        target = f'geventnode.interfaces.{contract[named].interface.__name__}.{named}'
    if target == named:
        return None
    return env.get_domain('py').resolve_xref(env, node['refdoc'], app.builder, node['reftype'], target, node, contnode)


def setup(app: Any) -> None:
    """Connect the handlers; Sphinx calls this."""
    app.connect('missing-reference', find_contract)
