#!/bin/sh
# gevent's spawn_later() counts its delay from the last turn of the loop, sleep() and Timeout from now.
#
# After a call that blocked the loop for longer than the delay, spawn_later(0.3) of gevent 26.9.0 runs at once: the loop's
# time is that of its last turn. sleep() and Timeout update that time before they start their timers. A program that
# computes for a while and then schedules a retry in 0.3 s therefore retries immediately, and a watchdog that is started
# with spawn_later() after an import of a second fires before the work has begun.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gevent==26.9.0
cat > "$work/show.py" <<'PYTHON'
import time

import gevent

STALL, DELAY = 0.5, 0.3


def after_a_stall(wait):
    """Return whether ``wait`` takes less than half of the delay after the loop was blocked."""
    gevent.sleep(0.01)
    time.sleep(STALL)
    start = time.monotonic()
    wait()
    return time.monotonic() - start < DELAY / 2


def with_timeout():
    with gevent.Timeout(DELAY, False):
        gevent.sleep(5)


early = {
    'spawn_later': after_a_stall(lambda: gevent.spawn_later(DELAY, int).join()),
    'sleep': after_a_stall(lambda: gevent.sleep(DELAY)),
    'Timeout': after_a_stall(with_timeout),
}
print('gevent', gevent.__version__, *(f'{name}: {"at once" if is_early else "later"}' for name, is_early in early.items()))
assert early == {'spawn_later': True, 'sleep': False, 'Timeout': False}
PYTHON
"$work/venv/bin/python" "$work/show.py"
# gevent 26.9.0 spawn_later: at once sleep: later Timeout: later
