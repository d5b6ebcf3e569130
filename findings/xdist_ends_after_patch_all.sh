#!/bin/sh
# A conftest.py that calls gevent's patch_all() ends every run of pytest-xdist in an internal error, not only in workers.
#
# Suites of gevent applications patch in conftest.py, and pass with plain pytest. With -n, pytest imports the file in the
# workers and in the controller after execnet has started real threads. Queues and locks that are made from then on are
# those of gevent, and a real thread cannot wake a greenlet that waits for one: the loop has nothing else to do and
# raises LoopExit. patch_all(thread=False) passes if it runs in the workers only.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gevent==26.9.0 pytest==9.2.0 pytest-xdist==3.8.0
cd "$work"
cat > test_it.py <<'PYTHON'
def test_it():
    pass
PYTHON

run() {
    echo "$1" > conftest.py
    shift
    timeout 100 "$work/venv/bin/python" -m pytest -q -p no:cacheprovider "$@" > out 2>&1 || true
    grep -o -m1 -E '^1 passed|LoopExit' out || tail -5 out
}

"$work/venv/bin/python" -c "
from importlib.metadata import version
print(*(f'{name} {version(name)}' for name in ('gevent', 'pytest', 'pytest-xdist')))"
everywhere='from gevent import monkey; monkey.patch_all()'
workers='import os; from gevent import monkey; "PYTEST_XDIST_WORKER" in os.environ and monkey.patch_all(thread=False)'
plain=$(run "$everywhere")
distributed=$(run "$everywhere" -n 2)
careful=$(run "$workers" -n 2)
echo "patched, without xdist:      $plain"
echo "patched, with xdist:         $distributed"
echo "workers, without threading:  $careful"
# gevent 26.9.0 pytest 9.2.0 pytest-xdist 3.8.0
# patched, without xdist:      1 passed
# patched, with xdist:         LoopExit
# workers, without threading:  1 passed
[ "$plain" = '1 passed' ] && [ "$distributed" = LoopExit ] && [ "$careful" = '1 passed' ]
