"""Configure Sphinx, which runs with ``-n -W``: every dead reference is an error."""

from __future__ import annotations

import sys
from pathlib import Path

from geventnode import __version__

# directives.py and references.py are beside this file.
sys.path.insert(0, str(Path(__file__).parent))

project = 'geventnode'
author = 'the geventnode developers'
copyright = '2026, the geventnode developers'  # noqa: A001 - Sphinx's name for it
version = release = __version__

extensions = ['sphinx.ext.autodoc', 'repoze.sphinx.autointerface', 'directives', 'references']
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
