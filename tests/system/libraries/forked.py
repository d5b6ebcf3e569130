"""Run a script of this folder in several ways, in forks that share its imports: ``forked.py SCRIPT WAYS URL ...``.

It prints the results of each way as JSON. A patched program cannot be such a fork, because it patches before it
imports.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import os
import runpy
import sys
import tempfile
from collections.abc import Iterator

#: Those of ``mounted.py``, which reads the arguments of a script.
MOUNTED = ['requests', 'geventnode.integrations.requests']


def imported(script: str) -> Iterator[str]:
    """Yield the names of the modules that a script imports, without those of this folder."""
    with open(script) as file:
        tree = ast.parse(file.read())
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module != 'mounted':
            yield node.module


def main(script: str, ways: str, *arguments: str) -> None:
    """Print the results of each way, or exit with the status of the first one that fails."""
    for name in (*MOUNTED, *imported(script)):
        importlib.import_module(name)
    gc.freeze()
    found = {}
    for way in ways.split(','):
        with tempfile.TemporaryFile('w+') as output:
            child = os.fork()
            if not child:
                os.dup2(output.fileno(), sys.stdout.fileno())
                sys.argv[:] = [script, way, *arguments]
                runpy.run_path(script, run_name='__main__')
                sys.exit()
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status:
                sys.exit(f'{way}: {status}')
            output.seek(0)
            found[way] = json.load(output)
    sys.stdout.write(json.dumps(found))


if __name__ == '__main__':
    main(*sys.argv[1:])
