"""The checks: one pure function for each possible problem.

A check takes the facts and returns its findings, an empty list if it does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from geventnode.cli.doctor.facts import PATCHABLE, Facts
from geventnode.cli.doctor.findings import Finding, Level
from geventnode.net.listen import DEFAULT_BACKLOG

__all__ = [
    'CHECKS',
    'OLDEST',
    'OLDEST_HTTP2',
    'check_blocking',
    'check_descriptors',
    'check_eventlet',
    'check_http2',
    'check_libraries',
    'check_loop',
    'check_openssl',
    'check_order',
    'check_patching',
    'check_program',
    'check_proxies',
    'check_python',
    'check_resolver',
    'check_somaxconn',
    'diagnose',
]

#: The range of tested versions of Python.
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 15)
#: The oldest tested version of each library.
OLDEST = {'gevent': '23.7.0', 'greenlet': '2.0.0', 'zope.interface': '5.5.0'}
#: The oldest version of each package of the extra ``http2``.
OLDEST_HTTP2 = {'h2': '4.1', 'hpack': '4.0', 'hyperframe': '6.0'}

#: Limits of open descriptors below which a finding is a problem or advice. Each connection needs a descriptor, and
#: one to an upstream another.
MIN_DESCRIPTORS, RECOMMENDED_DESCRIPTORS = 256, 4096

PATCH_FIRST = (
    "begin the program with 'from gevent import monkey; monkey.patch_all()', before every other import, or "
    "start it with 'geventnode serve' or gunicorn"
)

_BLOCKERS = {
    'psycopg2': 'use psycopg 3, or call psycogreen.gevent.patch_psycopg() when the program begins',
    'MySQLdb': 'use PyMySQL, which is pure Python',
    'pymssql': 'use python-tds, or call it through gevent.get_hub().threadpool',
    'grpc': 'import grpc.experimental.gevent and call its init_gevent() when the program begins',
    'confluent_kafka': 'call its blocking functions through gevent.get_hub().threadpool',
    'ibm_db': 'call it through gevent.get_hub().threadpool',
}

Check = Callable[[Facts], list[Finding]]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r'\d+', text)[:3])


def check_python(facts: Facts) -> list[Finding]:
    """Check that the interpreter is one of those that are tested."""
    running = _numbers(facts.python)[:2]
    oldest, newest = ('.'.join(map(str, each)) for each in (OLDEST_PYTHON, NEWEST_PYTHON))
    if running < OLDEST_PYTHON:
        return [
            Finding('python', Level.PROBLEM, f'Python {facts.python} is older than {oldest}', f'use Python {newest}')
        ]
    found = []
    if not facts.gil:
        found.append(
            Finding(
                'python',
                Level.PROBLEM,
                'this Python runs without the global interpreter lock, which greenlet and gevent rely on',
                'use the ordinary build, or PYTHON_GIL=1',
            )
        )
    if running > NEWEST_PYTHON:
        found.append(
            Finding(
                'python',
                Level.ADVICE,
                f'Python {facts.python} is newer than every tested version',
                f'use Python {newest}, or run the tests',
            )
        )
    if facts.implementation != 'CPython':
        found.append(Finding('python', Level.ADVICE, f'{facts.implementation} is not tested', 'use CPython'))
    return found or [Finding('python', Level.OK, f'Python {facts.python} is supported')]


def check_libraries(facts: Facts) -> list[Finding]:
    """Check that the libraries are not older than the tested versions."""
    found = []
    for name, oldest in OLDEST.items():
        version = facts.libraries.get(name)
        if version is None:
            found.append(
                Finding(
                    'libraries',
                    Level.ADVICE,
                    f'{name} is not installed as a package, so its version is unknown',
                    f'pip install {name}',
                )
            )
        elif _numbers(version) < _numbers(oldest):
            found.append(
                Finding(
                    'libraries',
                    Level.PROBLEM,
                    f'{name} {version} is older than {oldest}',
                    f"pip install --upgrade '{name}>={oldest}'",
                )
            )
    return found or [Finding('libraries', Level.OK, 'the libraries are new enough')]


def check_openssl(facts: Facts) -> list[Finding]:
    """Check that TLS is available, and that its library is still maintained."""
    if facts.openssl is None:
        return [
            Finding(
                'openssl',
                Level.ADVICE,
                'this Python has no ssl module, so there is no HTTPS',
                'build Python with OpenSSL if you need it',
            )
        ]
    if facts.openssl.startswith('OpenSSL') and _numbers(facts.openssl) < (3,):
        return [
            Finding(
                'openssl',
                Level.ADVICE,
                f'{facts.openssl} gets no more security updates from its authors',
                'use a Python that was built with OpenSSL 3, unless your distribution maintains it',
            )
        ]
    return [Finding('openssl', Level.OK, f'{facts.openssl} is current')]


def check_http2(facts: Facts) -> list[Finding]:
    """Check the packages of the extra ``http2``, if it is installed."""
    installed = facts.http2 or {}
    found = {name: version for name, version in installed.items() if version is not None}
    # other libraries can have installed a part of them
    if 'hpack' not in found or 'hyperframe' not in found:
        return [Finding('http2', Level.OK, 'servers speak HTTP/1.1 only: the extra http2 is not installed')]
    old = [name for name, version in found.items() if _numbers(version) < _numbers(OLDEST_HTTP2[name])]
    if old:
        name = old[0]
        message = f'{name} {found[name]} is older than {OLDEST_HTTP2[name]}, which HTTP/2 needs'
        return [Finding('http2', Level.PROBLEM, message, "pip install --upgrade 'geventnode[http2]'")]
    return [Finding('http2', Level.OK, 'servers can speak HTTP/2 (http2=True)')]


def check_loop(facts: Facts) -> list[Finding]:
    """Check that the event loop scales with the number of connections."""
    if facts.loop_error is not None:
        return [
            Finding(
                'loop',
                Level.PROBLEM,
                f'gevent cannot make an event loop: {facts.loop_error}',
                'unset GEVENT_LOOP and GEVENT_BACKEND',
            )
        ]
    found = []
    if 'libuv' in facts.loop:
        found.append(Finding('loop', Level.ADVICE, 'gevent runs on libuv, which is not tested', 'unset GEVENT_LOOP'))
    elif not facts.loop.endswith('corecext'):
        found.append(
            Finding(
                'loop',
                Level.ADVICE,
                f'gevent runs on {facts.loop}, which is slower than its C extension',
                'install gevent from a wheel, and unset GEVENT_LOOP and PURE_PYTHON',
            )
        )
    if facts.backend == 'select':
        found.append(
            Finding(
                'loop',
                Level.PROBLEM,
                'the loop waits with select(2), which is limited to 1024 descriptors',
                'unset LIBEV_FLAGS and GEVENT_LOOP, so that epoll or kqueue is used',
            )
        )
    elif facts.backend == 'poll':
        found.append(
            Finding(
                'loop',
                Level.ADVICE,
                'the loop waits with poll(2), which becomes slower with each connection',
                'unset LIBEV_FLAGS and GEVENT_LOOP, so that epoll or kqueue is used',
            )
        )
    return found or [Finding('loop', Level.OK, f'the loop waits with {facts.backend}')]


def check_resolver(facts: Facts) -> list[Finding]:
    """Check that looking up names does not block the loop."""
    if facts.loop_error is not None:
        return []
    if facts.resolver_error is not None:
        return [
            Finding(
                'resolver',
                Level.PROBLEM,
                f'no name can be looked up, because gevent cannot use its resolver: {facts.resolver_error}',
                'unset GEVENT_RESOLVER and GEVENT_THREADPOOL',
            )
        ]
    if facts.resolver == 'blocking':
        return [
            Finding(
                'resolver',
                Level.PROBLEM,
                'looking up a host name blocks the event loop',
                "unset GEVENT_RESOLVER, or set it to 'thread'",
            )
        ]
    if facts.resolver == 'dnspython':
        return [
            Finding(
                'resolver',
                Level.PROBLEM,
                'with dnspython 2, this resolver of gevent 26.9 finds no name outside the hosts file: each look-up '
                'fails with EAI_AGAIN',
                "unset GEVENT_RESOLVER, or set it to 'thread'",
            )
        ]
    if facts.resolver != 'thread':
        return [
            Finding(
                'resolver',
                Level.ADVICE,
                f'the resolver {facts.resolver} ignores some sources that the '
                "system's own resolver uses: /etc/nsswitch.conf, mDNS, search domains",
                'unset GEVENT_RESOLVER unless you need thousands of lookups at once',
            )
        ]
    return [Finding('resolver', Level.OK, "names are looked up by the system's resolver, in threads")]


def check_descriptors(facts: Facts) -> list[Finding]:
    """Check that enough descriptors can be open for a server's connections."""
    if facts.descriptors is None:
        return []
    soft, hard = facts.descriptors
    if soft is None or soft >= RECOMMENDED_DESCRIPTORS:
        return [Finding('descriptors', Level.OK, f'{soft or "any number of"} descriptors can be open')]
    room = hard is None or hard > soft
    return [
        Finding(
            'descriptors',
            Level.PROBLEM if soft < MIN_DESCRIPTORS else Level.ADVICE,
            f'at most {soft} descriptors can be open, and each connection needs one',
            f"'ulimit -n {65536 if hard is None else min(hard, 65536)}' in the shell that starts the program, "
            'LimitNOFILE= in a systemd unit, or --ulimit nofile= for a container'
            if room
            else 'raise the hard limit: /etc/security/limits.conf, LimitNOFILE= in a systemd unit, or '
            '--ulimit nofile= for a container',
        )
    ]


def check_somaxconn(facts: Facts) -> list[Finding]:
    """Check that the kernel allows the backlog that a server sets."""
    if facts.somaxconn is None:
        return []
    if facts.somaxconn < DEFAULT_BACKLOG:
        return [
            Finding(
                'somaxconn',
                Level.ADVICE,
                f'the kernel queues at most {facts.somaxconn} connections that '
                f'are not yet accepted, but a server asks for {DEFAULT_BACKLOG}: in bursts, clients wait for seconds',
                'sysctl -w net.core.somaxconn=4096, and in /etc/sysctl.d to keep it',
            )
        ]
    return [Finding('somaxconn', Level.OK, f'the kernel queues {facts.somaxconn} connections until they are accepted')]


def check_program(facts: Facts) -> list[Finding]:
    """Check that the program can be imported."""
    if facts.failed is None:
        return []
    return [
        Finding(
            'program',
            Level.PROBLEM,
            f'{facts.target} cannot be imported: {facts.failed}',
            'see the traceback on standard error',
        )
    ]


def check_patching(facts: Facts) -> list[Finding]:
    """Check that the program patches the whole standard library."""
    if facts.target is None or facts.failed is not None:
        return []
    missing = [name for name in PATCHABLE if name not in facts.patched]
    if not facts.patched:
        return [
            Finding(
                'patching',
                Level.ADVICE,
                f'{facts.target} does not patch the standard library: that is right under '
                "'geventnode serve' and gunicorn, which patch before they load it; started in any other way, each "
                'blocking call stops all greenlets',
                PATCH_FIRST,
            )
        ]
    if missing:
        return [
            Finding(
                'patching',
                Level.PROBLEM,
                f'{facts.target} patches the standard library in part: '
                f'{", ".join(missing)} can still block all greenlets',
                'call monkey.patch_all() without arguments',
            )
        ]
    return [Finding('patching', Level.OK, f'{facts.target} patches the standard library')]


def check_order(facts: Facts) -> list[Finding]:
    """Check that the program patches before other imports and threads."""
    if facts.target is None or not facts.patched:
        return []
    found = []
    if facts.early:
        found.append(
            Finding(
                'order',
                Level.PROBLEM,
                f'{facts.target} patches too late: {", ".join(facts.early)} had '
                'been imported before, and can keep blocking functions',
                PATCH_FIRST,
            )
        )
    if facts.threads:
        found.append(
            Finding(
                'order',
                Level.PROBLEM,
                f'{facts.threads} other thread(s) ran when {facts.target} patched: their locks block all greenlets',
                'patch before anything starts a thread',
            )
        )
    if facts.other_thread:
        found.append(Finding('order', Level.PROBLEM, f'{facts.target} does not patch in the main thread', PATCH_FIRST))
    found += [Finding('order', Level.PROBLEM, f'gevent warns: {warning}', PATCH_FIRST) for warning in facts.warnings]
    return found or [Finding('order', Level.OK, 'the program patches before everything else')]


def check_blocking(facts: Facts) -> list[Finding]:
    """Check that no library blocks in C code, which patching cannot change."""
    return [
        Finding(
            'blocking',
            Level.PROBLEM,
            f'{name} blocks in C code, which patching cannot change: each call stops all greenlets',
            _BLOCKERS[name],
        )
        for name in facts.blocking
    ]


def check_eventlet(facts: Facts) -> list[Finding]:
    """Check that eventlet does not run beside gevent."""
    if facts.eventlet is None:
        return []
    if facts.eventlet:
        return [
            Finding(
                'eventlet',
                Level.PROBLEM,
                f'eventlet.monkey_patch() has patched {", ".join(facts.eventlet)}: a greenlet that waits there runs '
                "eventlet's loop, which stops the server and all other greenlets",
                'remove the call, and every import of eventlet; see the page "From eventlet" of the documentation',
            )
        ]
    return [
        Finding(
            'eventlet',
            Level.ADVICE,
            f'{facts.target} imports eventlet: a greenlet that waits in it stops the server and all other greenlets',
            'use gevent instead: see the page "From eventlet" of the documentation; if a library imports eventlet '
            'because it is installed, uninstall it',
        )
    ]


def check_proxies(facts: Facts) -> list[Finding]:
    """Check that the proxies of the environment are valid and used."""
    if facts.proxy_error is not None:
        return [
            Finding(
                'proxies', Level.PROBLEM, f'the environment has an unusable proxy: {facts.proxy_error}', 'correct it'
            )
        ]
    if facts.proxies and not facts.proxies_used:
        return [
            Finding(
                'proxies',
                Level.ADVICE,
                f'the environment names proxies ({", ".join(facts.proxies)}), which requests without an agent do not '
                'use; geventnode get and the requests adapter do',
                'call http.set_global_proxy_from_env() when the program begins, or make agents with proxy_env=True',
            )
        ]
    return [Finding('proxies', Level.OK, 'requests use the proxies of the environment')] if facts.proxies else []


CHECKS: tuple[Check, ...] = (
    check_python,
    check_libraries,
    check_openssl,
    check_http2,
    check_loop,
    check_resolver,
    check_descriptors,
    check_somaxconn,
    check_program,
    check_patching,
    check_order,
    check_blocking,
    check_eventlet,
    check_proxies,
)


def diagnose(facts: Facts) -> list[Finding]:
    """Run all checks, and return their findings in order."""
    return [finding for check in CHECKS for finding in check(facts)]
