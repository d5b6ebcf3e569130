#!/bin/sh
# gevent.monkey.patch_all() reads the metadata of every installed distribution, once for each of 25 events.
#
# gevent 26.9.0 notifies entry points before and after it patches a module, and looks them up anew each time:
# importlib.metadata.entry_points() then opens a file of every distribution on sys.path. In an environment with 100
# packages, this is a fifth of the time in which a small server starts, although no package has such an entry point.
# There is no setting; a process that starts often saves it only with fewer packages in its environment.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gevent==26.9.0
cat > "$work/show.py" <<'PYTHON'
import pathlib
import sys
import tempfile
from importlib import metadata

PACKAGES = 100

with tempfile.TemporaryDirectory() as name:
    for number in range(PACKAGES):
        folder = pathlib.Path(name, f'package{number}-1.dist-info')
        folder.mkdir()
        (folder / 'METADATA').write_text(f'Name: package{number}\nVersion: 1\n')
    sys.path.append(name)

    lookups, reads = 0, 0
    entry_points, read_text = metadata.entry_points, metadata.PathDistribution.read_text

    def counted_lookup(**selected):
        global lookups
        lookups += 1
        return entry_points(**selected)

    def counted_read(distribution, file):
        global reads
        reads += file == 'entry_points.txt'
        return read_text(distribution, file)

    metadata.entry_points, metadata.PathDistribution.read_text = counted_lookup, counted_read
    import gevent.monkey

    gevent.monkey.patch_all()

print('gevent', gevent.__version__, 'lookups:', lookups, 'files read:', reads)
assert lookups >= 20
assert reads >= lookups * PACKAGES
PYTHON
"$work/venv/bin/python" "$work/show.py"
# gevent 26.9.0 lookups: 25 files read: 2650
