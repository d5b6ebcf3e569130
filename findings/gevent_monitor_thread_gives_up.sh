#!/bin/sh
# gevent's monitor thread, started as its documentation shows, can stop without a message, and then never reports anything.
#
# start_periodic_monitoring_thread() before the hub has run works only if the program waits for something within
# max_blocking_time. If its first check is earlier, for example during imports, the thread ends without a message, and
# does not report later blocking of the loop. gevent.sleep(0) before the call is enough.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gevent==26.9.0 greenlet==3.5.6
cat > "$work/blocking.py" <<'PYTHON'
import sys
import time

import gevent

gevent.config.monitor_thread = True
gevent.config.max_blocking_time = 0.25
if sys.argv[1] == 'hub runs':
    gevent.sleep(0)
gevent.get_hub().start_periodic_monitoring_thread()
time.sleep(0.8)         # as long as imports can take


def block():
    time.sleep(0.8)


gevent.spawn(block).join()
PYTHON
cat > "$work/show.py" <<'PYTHON'
import pathlib
import subprocess
import sys

import gevent

program = pathlib.Path(__file__).with_name('blocking.py')
found = {}
for first in 'hub has not run', 'hub runs':
    ran = subprocess.run([sys.executable, program, first], capture_output=True, text=True, check=True)
    found[first] = 'in block' in ran.stderr
print('gevent', gevent.__version__)
for first, reported in found.items():
    print(f'{first}: a greenlet that blocks for 0.8 s is', 'reported' if reported else 'not reported')
assert found == {'hub has not run': False, 'hub runs': True}
PYTHON
"$work/venv/bin/python" "$work/show.py"
# gevent 26.9.0
# hub has not run: a greenlet that blocks for 0.8 s is not reported
# hub runs: a greenlet that blocks for 0.8 s is reported
