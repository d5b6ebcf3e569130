"""The command line: parsing, loading targets, and error messages.

``tests/system/test_command.py`` has the tests that patch the standard library, and so need a process.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from geventnode import __version__, http
from geventnode.cli.arguments import HINTS
from geventnode.cli.main import _listen, as_listener, main, parse_bind
from geventnode.cli.targets import FILE_MODULE, UsageError, load_target, print_traceback
from tests.certificates import tls_certificates

ROOT = Path(__file__).parents[2]

SOURCE = """
from geventnode import http

def listener(request, response):
    response.end()

class Group:
    inner = listener

number = 42
made = http.Server()
"""


# -- --bind -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'args', 'options'),
    [
        ('127.0.0.1:8000', (8000, '127.0.0.1'), {}),
        ('localhost:0', (0, 'localhost'), {}),
        ('0.0.0.0:65535', (65535, '0.0.0.0'), {}),
        ('[::1]:80', (80, '::1'), {}),
        ('unix:/run/a b.sock', (), {'path': '/run/a b.sock'}),
        ('unix:8000', (), {'path': '8000'}),
        ('fd:3', ({'fd': 3},), {}),
    ],
)
def test_bind_is_parsed(text: str, args: tuple[object, ...], options: dict[str, object]) -> None:
    assert parse_bind(text) == (args, options, text)


@pytest.mark.parametrize(('text', 'host'), [('8000', '127.0.0.1'), (':8000', '0.0.0.0')])
def test_bind_of_a_port_alone(text: str, host: str) -> None:
    assert parse_bind(text) == ((8000, host), {}, f'{host}:8000')


@pytest.mark.parametrize(
    'text',
    [
        '',
        ':',
        ':x',
        '65536',
        ':65536',
        '123456',
        '-1',
        '\u0661',
        ':\u0661',
        'localhost',
        'localhost:',
        'localhost:http',
        'localhost:-1',
        'localhost:65536',
        'localhost:1234567',
        '::1:80',
        '[::1]',
        '[]:80',
        'unix:',
        'fd:',
        'fd:-1',
        'fd:x',
        'http://localhost:80',
        'localhost:\u0661',
    ],
)
def test_bind_refuses_a_bad_address(text: str) -> None:
    with pytest.raises(UsageError, match='--bind must be HOST:PORT') as raised:
        parse_bind(text)
    assert '\n' not in str(raised.value)


class Unprivileged:
    """A server without the privilege to listen; in a container, every port can be free of privileges."""

    def listen(self, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_port_that_needs_a_privilege_has_a_remedy() -> None:
    with pytest.raises(UsageError) as raised:
        _listen(Unprivileged(), parse_bind('80'))
    assert str(raised.value) == (
        'cannot listen on 127.0.0.1:80: Permission denied; ports below 1024 need a privilege: choose another port with '
        '--bind, let systemd pass the socket (LISTEN_FDS), or listen behind a proxy'
    )


# -- TARGET -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, from which modules can be loaded; they are unloaded after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [each for each in sys.path if each])
    known = set(sys.modules)
    (tmp_path / 'cli_target.py').write_text(SOURCE)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith('cli_') or name == FILE_MODULE:
            del sys.modules[name]


@pytest.mark.parametrize(
    ('target', 'name'),
    [
        ('cli_target:listener', 'listener'),
        ('cli_target:Group.inner', 'listener'),
        ('cli_target.py:listener', 'listener'),
        ('./cli_target.py', 'listener'),
        ('cli_target.py:Group.inner', 'listener'),
    ],
)
def test_target_names_a_listener(directory: Path, target: str, name: str) -> None:
    assert load_target(target).__name__ == name


@pytest.mark.parametrize('target', ['cli_target:made', 'cli_target.py:made'])
def test_target_names_a_server(directory: Path, target: str) -> None:
    assert isinstance(load_target(target), http.Server)


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ('handler = print', 'handler'),
        ('handler = listener = print', 'listener'),
        ('from geventnode import http\nlistener = print\nserver = http.Server()', 'server'),
    ],
)
def test_file_without_a_name_is_searched(directory: Path, source: str, expected: str) -> None:
    """The first of the default names counts."""
    (directory / 'cli_file.py').write_text(source)
    assert load_target('cli_file.py') is getattr(sys.modules[FILE_MODULE], expected)


def test_file_can_import_from_its_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / 'sub').mkdir()
    (directory / 'sub' / 'cli_beside.py').write_text('listener = print')
    (directory / 'sub' / 'cli_file.py').write_text('from cli_beside import listener')
    assert load_target('sub/cli_file.py') is print


def test_file_does_not_replace_a_module_of_its_name(directory: Path) -> None:
    (directory / 'json.py').write_text('listener = print')
    before = sys.modules.get('json')
    load_target('json.py')
    assert sys.modules.get('json') is before


@pytest.mark.parametrize(
    ('target', 'complaint'),
    [
        ('cli_target', "TARGET must be module:name or file.py[:name], not 'cli_target'; did you mean 'cli_target.py'?"),
        (
            'cli_target:',
            "TARGET must be module:name or file.py[:name], not 'cli_target:'; did you mean 'cli_target.py'?",
        ),
        ('cli_none', "TARGET must be module:name or file.py[:name], not 'cli_none'"),
        (
            'cli_package',
            ("TARGET must be module:name or file.py[:name], not 'cli_package'; did you mean 'cli_package:NAME'?"),
        ),
        (
            'cli_package.inner',
            (
                "TARGET must be module:name or file.py[:name], not 'cli_package.inner'; did you mean "
                "'cli_package.inner:NAME'?"
            ),
        ),
        ('.cli_target:name', "TARGET must be module:name or file.py[:name], not '.cli_target:name'"),
        ('cli_target:nothing', "'cli_target' has no 'nothing'; did you mean 'listener'?"),
        ('cli_target:Group.nothing', "'cli_target' has no 'Group.nothing'"),
        ('cli_target:Groups', "'cli_target' has no 'Groups'; did you mean 'Group'?"),
        ('cli_target.py:nothing', "'cli_target.py' has no 'nothing'; did you mean 'listener'?"),
        (
            'cli_made.py',
            (
                "'cli_made.py' has none of the names server, listener, handler, app, application; name one, "
                "as in cli_made.py:name; to use the result of create_app(), write 'cli_made.py:create_app()'"
            ),
        ),
        (
            'cli_target:number',
            (
                "'number' of 'cli_target' is of type int; it must be a request listener, a WSGI application "
                'or an http.Server'
            ),
        ),
        (
            'cli_empty.py',
            (
                "'cli_empty.py' has none of the names server, listener, handler, app, application; name "
                'one, as in cli_empty.py:name'
            ),
        ),
    ],
)
def test_bad_target_is_refused_with_a_suggestion(directory: Path, target: str, complaint: str) -> None:
    (directory / 'cli_empty.py').write_text('')
    (directory / 'cli_made.py').write_text('def create_app(): pass')
    (directory / 'cli_package').mkdir()
    for name in ('__init__', 'inner'):
        (directory / 'cli_package' / f'{name}.py').write_text('')
    with pytest.raises(UsageError) as raised:
        load_target(target)
    assert str(raised.value) == complaint


@pytest.mark.parametrize(
    ('target', 'missing'),
    [
        ('cli_nowhere:name', 'cli_nowhere'),
        ('cli_nowhere.inner:name', 'cli_nowhere'),
        ('cli_target.inner:name', 'cli_target.inner'),
    ],
)
def test_missing_module_is_reported(directory: Path, target: str, missing: str) -> None:
    """The message names the directory and the Python, because often one of them is the wrong one."""
    with pytest.raises(UsageError) as raised:
        load_target(target)
    assert str(raised.value) == (
        f'no module is named {missing!r}, neither in the current directory, {directory}, nor '
        f'among the packages of {sys.executable}'
    )


def test_missing_file_is_reported(directory: Path) -> None:
    with pytest.raises(UsageError, match=f"^the file 'cli_nowhere.py' does not exist in {directory}$"):
        load_target('cli_nowhere.py')


@pytest.mark.parametrize('source', ['import cli_not_there', 'raise ValueError', 'x ='])
@pytest.mark.parametrize('target', ['cli_broken:listener', 'cli_broken.py'])
def test_exception_of_a_target_propagates(directory: Path, source: str, target: str) -> None:
    (directory / 'cli_broken.py').write_text(source)
    with pytest.raises((ModuleNotFoundError, ValueError, SyntaxError)):
        load_target(target)


FACTORIES = """
def listener(request, response):
    response.end()

def create_app(config=None, testing=False):
    return listener

def create_none():
    pass

def create_from(config):
    return listener

def create_badly():
    raise ZeroDivisionError

class Site:
    def __init__(self, name='site'):
        pass

    def __call__(self, environ, start_response):
        return []

number = 42
"""


@pytest.mark.parametrize('where', ['.', 'cli_site'])
def test_package_of_the_file_itself_need_not_be_installed(
    where: str, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in ``mysite/wsgi.py`` of Django: a package of that name from an index would be another one."""
    (directory / 'cli_site').mkdir()
    (directory / 'cli_site' / '__init__.py').write_text('')
    (directory / 'cli_site' / 'inner.py').write_text('import cli_site.settings')
    monkeypatch.chdir(where)
    with pytest.raises(ModuleNotFoundError) as raised:
        load_target(os.path.relpath(directory / 'cli_site' / 'inner.py'))
    print_traceback(raised.value, __file__)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"geventnode: 'cli_site' is in {directory}, and the import path of a file has only the directory of the file; "
        f"name its module, as in 'cli_site.inner:NAME', and run the command in {directory}"
    )


def test_package_that_has_been_found_is_not_searched(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A package of the same name above the file has nothing to do with the missing module."""
    (directory / 'json').mkdir()
    (directory / 'json' / '__init__.py').write_text('')
    (directory / 'json' / 'inner.py').write_text('import json.nothing')
    with pytest.raises(ModuleNotFoundError) as raised:
        load_target(str(directory / 'json' / 'inner.py'))
    print_traceback(raised.value, __file__)
    assert 'install the missing package' in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def factories(directory: Path) -> None:
    (directory / 'cli_factories.py').write_text(FACTORIES)


@pytest.mark.parametrize('target', ['cli_factories:create_app()', 'cli_factories.py:create_app()'])
def test_factory_is_called(factories: None, target: str) -> None:
    assert load_target(target).__name__ == 'listener'
    assert type(load_target('cli_factories:Site()')).__name__ == 'Site'


@pytest.mark.parametrize(
    ('target', 'complaint'),
    [
        ('cli_factories:nothing()', "'cli_factories' has no 'nothing'; did you mean 'listener'?"),
        ('cli_factories:number()', "'cli_factories:number()' cannot be called, because it is of type int"),
        (
            'cli_factories:create_none()',
            (
                "'cli_factories:create_none()' returned an object of type NoneType; it must be a "
                'request listener, a WSGI application or an http.Server'
            ),
        ),
        (
            'cli_factories:create_from()',
            (
                "'cli_factories:create_from()' is called without arguments, but takes 1 argument; "
                'name a function that needs none'
            ),
        ),
        (
            'cli_factories:create_from(1)',
            (
                "TARGET must be module:name or file.py[:name], not 'cli_factories:create_from(1)'"
                '; name() is a call without arguments'
            ),
        ),
    ],
)
def test_bad_factory_is_refused(factories: None, target: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_target(target)
    assert str(raised.value) == complaint


def test_exception_of_a_factory_propagates(factories: None) -> None:
    with pytest.raises(ZeroDivisionError):
        load_target('cli_factories:create_badly()')


LISTENERS = 'but a listener takes (request, response) and a WSGI application (environ, start_response)'


@pytest.mark.parametrize(
    ('name', 'complaint'),
    [
        ('create_none', f"takes no arguments, {LISTENERS}; to use its result, write 'made:create_none()'"),
        ('create_from', f'takes 1 argument, {LISTENERS}'),
        ('Site', 'is a class; use an instance of it, or a function that returns one, as name()'),
        (
            'create_app',
            (
                'can be a WSGI application or a request listener; add --wsgi or --listener; to use its result, '
                "write 'made:create_app()'"
            ),
        ),
    ],
)
def test_callable_with_other_parameters_is_refused(factories: None, name: str, complaint: str) -> None:
    options = Namespace(target=f'made:{name}', kind=None)
    with pytest.raises(UsageError) as raised:
        as_listener(load_target(f'cli_factories:{name}'), options)
    assert str(raised.value) == f"'made:{name}' {complaint}"


# -- targets that import Werkzeug -------------------------------------------------------------------------------------


@pytest.fixture
def werkzeug(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a small Werkzeug that is not yet imported; the finders of modules are the same in the end."""
    finders = [*sys.meta_path]
    monkeypatch.setattr(sys, 'meta_path', [*finders])
    for name in _of_werkzeug():
        monkeypatch.delitem(sys.modules, name)
    (directory / 'werkzeug').mkdir()
    (directory / 'werkzeug' / '__init__.py').write_text('')
    (directory / 'werkzeug' / 'serving.py').write_text('def run_simple(): return "served"')
    yield directory / 'werkzeug'
    assert [each for each in sys.meta_path if type(each) is not Passed] == finders
    for name in _of_werkzeug():
        del sys.modules[name]


def _of_werkzeug() -> list[str]:
    return [name for name in sys.modules if name.partition('.')[0] == 'werkzeug']


class Passed:
    """A finder without ``find_spec``; ``find_module`` is its predecessor."""

    def find_module(self, name: str, path: object = None) -> None:
        """Find nothing."""


def test_server_of_werkzeug_is_refused_during_the_import_only(directory: Path, werkzeug: Path) -> None:
    """Werkzeug itself, and the target, can keep the function that refuses; it serves afterwards."""
    (werkzeug / '__init__.py').write_text('from .serving import run_simple')
    (directory / 'cli_kept.py').write_text('from werkzeug import run_simple\nlistener = print')
    load_target('cli_kept:listener')
    assert sys.modules['cli_kept'].run_simple() == sys.modules['werkzeug'].run_simple() == 'served'
    for name in _of_werkzeug():
        del sys.modules[name]
    (directory / 'cli_served.py').write_text('import werkzeug\nwerkzeug.run_simple()')
    with pytest.raises(UsageError, match=r'starts a server itself while it is imported \(cli_served\.py, line 2\)'):
        load_target('cli_served:listener')


def test_import_of_werkzeug_that_fails_can_be_repeated(directory: Path, werkzeug: Path) -> None:
    source = (werkzeug / 'serving.py').read_text()
    (werkzeug / 'serving.py').write_text(
        f'import sys\nif not hasattr(sys.modules["werkzeug"], "again"): 1 / 0\n{source}'
    )
    (directory / 'cli_file.py').write_text(
        'import werkzeug\n'
        'try:\n    import werkzeug.serving\n'
        'except ZeroDivisionError:\n    werkzeug.again = True\n'
        'import werkzeug.serving\n'
        'werkzeug.serving.run_simple()\n'
    )
    with pytest.raises(UsageError, match='starts a server itself'):
        load_target('cli_file.py')


# before Python 3.12, the import system warns of such a finder
@pytest.mark.filterwarnings('ignore::ImportWarning')
def test_finder_without_its_method_is_passed_over(directory: Path, werkzeug: Path) -> None:
    sys.meta_path.insert(0, Passed())
    (directory / 'cli_file.py').write_text('import werkzeug.serving\nlistener = print')
    assert load_target('cli_file.py') is print


def test_loader_of_werkzeug_has_its_optional_methods(directory: Path, werkzeug: Path) -> None:
    """A program can look for a module, and read its source, without importing it."""
    (directory / 'cli_file.py').write_text(
        'from importlib.util import find_spec\n'
        'source = find_spec("werkzeug.serving").loader.get_source("werkzeug.serving")\n'
        'listener = print'
    )
    load_target('cli_file.py')
    assert sys.modules[FILE_MODULE].source == (werkzeug / 'serving.py').read_text()


def test_namespace_instead_of_the_module_is_imported(directory: Path, werkzeug: Path) -> None:
    (werkzeug / 'serving.py').unlink()
    (werkzeug / 'serving').mkdir()
    (directory / 'cli_file.py').write_text('import werkzeug.serving\nlistener = print')
    assert load_target('cli_file.py') is print


def test_import_of_werkzeug_can_be_forbidden(directory: Path, werkzeug: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None instead of a module forbids its import."""
    monkeypatch.setitem(sys.modules, 'werkzeug.serving', None)
    assert load_target('cli_target:listener').__name__ == 'listener'


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['serve', '--unknown'],
        ['serve', '--grace', '-1'],
        ['serve', '--grace', 'nan'],
        ['serve', 'a:b', 'c:d'],
        ['unknown'],
    ],
)
def test_wrong_command_line_prints_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert capsys.readouterr().err.startswith('usage: ')


def test_missing_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert 'the command is missing; use serve, get or doctor, as in: geventnode serve\n' in capsys.readouterr().err


@pytest.mark.parametrize('arguments', [[], ['serve'], ['get'], ['doctor']])
def test_help_fits_a_terminal(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptions that argparse does not wrap are as narrow as the others; examples can be wider."""
    monkeypatch.setenv('COLUMNS', '80')
    with pytest.raises(SystemExit):
        main([*arguments, '--help'])
    text = re.split('\n(?:examples|exit status):\n', capsys.readouterr().out)[0]
    assert max(map(len, text.splitlines())) <= 80


ASGI = """
async def app(scope, receive, send): pass

async def renamed(a, b, c): pass

class Framework:
    async def __call__(self, scope, receive, send): pass

instance = Framework()

async def coroutine(environ, start_response): pass
"""


@pytest.mark.parametrize('name', ['app', 'renamed', 'instance'])
@pytest.mark.parametrize('kind', [None, 'wsgi', 'listener'])
def test_asgi_application_is_refused(directory: Path, name: str, kind: str | None) -> None:
    """It is recognized, with each option."""
    (directory / 'cli_asgi.py').write_text(ASGI)
    target = f'cli_asgi:{name}'
    with pytest.raises(UsageError) as raised:
        as_listener(load_target(target), Namespace(target=target, kind=kind))
    assert str(raised.value) == (
        f'{target!r} is an ASGI application, which needs an asyncio event loop; run it with an ASGI server, such as '
        'uvicorn or hypercorn. geventnode serves WSGI applications and request listeners'
    )


def test_coroutine_function_with_wsgi_option_is_refused(directory: Path) -> None:
    (directory / 'cli_asgi.py').write_text(ASGI)
    with pytest.raises(
        UsageError, match=r"^'made': a WSGI application must be a plain function, and coroutine\(\) is "
    ):
        as_listener(load_target('cli_asgi:coroutine'), Namespace(target='made', kind='wsgi'))


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(['--version'])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f'geventnode {__version__}\n'


@pytest.mark.parametrize('option', ['--bind', '--access-log, --no-access-log', '--grace', 'TARGET', 'examples:'])
def test_help_has_every_part(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['serve', '--help'])
    assert option in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--port', '8000'], ': --port; --port: use --bind PORT or --bind HOST:PORT'),
        (
            ['app:app', '--host=::1', '--port=8000'],
            (': --host=::1 --port=8000; --host, --port: use --bind PORT or --bind HOST:PORT'),
        ),
        (['app:app', '-w', '4'], ': -w 4; -w: use --workers N'),
        (['app:app', '-w4'], ': -w4; -w: use --workers N'),
        (
            ['app:app', '--reload'],
            (
                ": --reload; --reload: use a program that watches files, as in: watchfiles 'geventnode serve ...'; or "
                '--reload-on-hup, and send SIGHUP'
            ),
        ),
        (['--unknown'], ': --unknown'),
    ],
)
def test_option_of_another_server_has_a_hint(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has the command's usage and the option to use instead."""
    with pytest.raises(SystemExit):
        main(['serve', *arguments])
    printed = capsys.readouterr().err
    assert printed.startswith('usage: geventnode serve ')
    assert printed.endswith(f'geventnode serve: error: unrecognized arguments{complaint}\n')


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['-i', 'http://a/'], ': -i; -i: use --include'),
        (['-I', 'http://a/'], ': -I; -I: use -X HEAD --include'),
        (
            ['http://a/', '-fsSL'],
            (
                ': -fsSL; -f: use --fail; -s, -S: a progress bar is shown only with -o, on a '
                'terminal; remove the option; -L: redirects are not followed; use --include to see their target'
            ),
        ),
        (['-k', 'http://a/'], ': -k; -k: use --insecure'),
        (['-u', 'me:secret', 'http://a/'], ': -u http://a/; -u: use http://USER:PASSWORD@HOST/'),
        (['http://a/', '--max-time=3'], ': --max-time=3; --max-time: use --timeout SECONDS'),
    ],
)
def test_option_of_curl_has_a_hint(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['get', *arguments])
    assert capsys.readouterr().err.endswith(f'geventnode get: error: unrecognized arguments{complaint}\n')


def test_every_hint_is_for_an_unknown_option(capsys: pytest.CaptureFixture[str]) -> None:
    """An option that argparse accepts, if only abbreviated, would never get its hint."""
    for command_name, hints in HINTS.items():
        for option in hints:
            with pytest.raises(SystemExit):
                main([command_name, 'http://a/', option])
            assert f'; {option}: {hints[option]}' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        *(
            (['serve', '--workers', text], f'--workers: must be a whole number from 1, not {text!r}')
            for text in ('0', '-1', 'x', '1.5', '\u0661')
        ),
        *(
            (['serve', '--grace', text], f'--grace: must be a number of seconds from 0, not {text!r}')
            for text in ('-1', 'x', 'nan', 'inf')
        ),
        *(
            (['serve', '--min-body-rate', text], f'--min-body-rate: must be a whole number from 0, not {text!r}')
            for text in ('-1', 'x', '1.5')
        ),
        (['get', '--timeout', 'soon', 'http://a/'], "--timeout: must be a number of seconds from 0, not 'soon'"),
    ],
)
def test_bad_number_is_refused(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert capsys.readouterr().err.endswith(f'error: argument {complaint}\n')


@pytest.mark.parametrize('option', ['--wsgi', '--listener'])
@pytest.mark.parametrize('more', [[], ['--workers', '2']])
def test_kind_of_target_needs_a_target(option: str, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The demo page is served without one."""
    assert main(['serve', option, *more]) == 2
    assert capsys.readouterr().err == f'geventnode: {option} has no effect without TARGET; name a file or a module\n'


@pytest.mark.parametrize('more', [[], ['--workers', '2']])
def test_trusted_proxy_needs_a_field(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['serve', '--trusted-proxy', '127.0.0.1', *more]) == 2
    assert capsys.readouterr().err == (
        'geventnode: --trusted-proxy has no effect without --forwarded FIELD or --proxy-protocol; add one of them\n'
    )


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['--forwarded', 'forwarded'], '--forwarded has no effect without --trusted-proxy ADDRESS; add it'),
        (
            ['--proxy-protocol'],
            '--proxy-protocol without --trusted-proxy ADDRESS would refuse every connection; add it',
        ),
        (['--keyfile', __file__], '--keyfile has no effect without --certfile FILE; add it'),
        (
            ['--trusted-proxy', '::1', '--forwarded', 'x'],
            (
                '--forwarded must be of forwarded, x-forwarded-for, x-forwarded-proto, x-forwarded-host, '
                "x-forwarded-port, not 'x'"
            ),
        ),
        (['--certfile', 'nowhere'], "--certfile: no such file: 'nowhere'"),
        (
            ['--monitor', '--monitor-client', 'x'],
            (
                "--monitor-client: 'x' is neither an IP address, nor a network in CIDR notation (without host bits), "
                "nor 'unix'"
            ),
        ),
        (
            ['--certfile', __file__],
            f'--certfile or --keyfile: {__file__} cannot be used: {__file__} has no certificate in PEM format',
        ),
    ],
)
def test_errors_name_the_options_of_the_command(
    arguments: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr('gevent.monkey.patch_all', lambda: None)
    assert main(['serve', *arguments]) == 2
    assert capsys.readouterr().err == f'geventnode: {complaint}\n'


@pytest.mark.parametrize(
    ('key', 'remedy'),
    [
        ('', '{path} has no private key in PEM format; add --keyfile FILE'),
        (
            '-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n',
            'the key is encrypted; use a key without encryption',
        ),
    ],
)
def test_errors_about_keys_name_the_options_of_the_command(
    key: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr('gevent.monkey.patch_all', lambda: None)
    path = tmp_path / 'chain.pem'
    path.write_text(key + Path(tls_certificates().ca).read_text('ascii'))
    assert main(['serve', '--certfile', str(path)]) == 2
    assert capsys.readouterr().err.endswith(f'cannot be used: {remedy.format(path=path)}\n')


@pytest.mark.parametrize('more', [[], ['--workers', '2']])
def test_limit_of_streams_needs_http2(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['serve', '--http2-max-concurrent-streams', '5', *more]) == 2
    assert capsys.readouterr().err == (
        'geventnode: --http2-max-concurrent-streams has no effect without --http2; add it\n'
    )


@pytest.mark.parametrize('more', [[], ['--workers', '2'], ['--reload-on-hup']])
def test_format_needs_a_log(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['serve', '--access-log-format', 'json', '--no-access-log', *more]) == 2
    assert capsys.readouterr().err == (
        'geventnode: --access-log-format has no effect with --no-access-log; remove one of them\n'
    )


def test_http2_needs_its_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    monkeypatch.setattr('gevent.monkey.patch_all', lambda: None)
    assert main(['serve', '--http2']) == 2
    assert capsys.readouterr().err == (
        "geventnode: --http2 needs hpack, which is not installed; pip install 'geventnode[http2]'\n"
    )


def test_bind_has_a_short_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['serve', '-b', 'nowhere']) == 2
    assert "not 'nowhere'" in capsys.readouterr().err


def test_usage_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['serve', '--bind', 'nowhere']) == 2
    printed = capsys.readouterr()
    assert printed.out == ''
    assert printed.err == (
        "geventnode: --bind must be HOST:PORT, [IPV6]:PORT, :PORT, PORT, unix:PATH or fd:N, not "
        "'nowhere'; did you mean 'nowhere:8000'?\n"
    )


@pytest.mark.parametrize(
    ('text', 'meant'),
    [
        ('localhost', 'localhost:8000'),
        ('127.0.0.1', '127.0.0.1:8000'),
        ('http://localhost:80/', 'localhost:80'),
        ('https://localhost', 'localhost:8000'),
        ('::1', '[::1]:8000'),
        ('[::1]', '[::1]:8000'),
        ('::1:80', '[::1]:80'),
        ('2001:db8::5', '[2001:db8::5]:8000'),
        ('-1', None),
        ('/run/app.sock', 'unix:/run/app.sock'),
        ('70000', None),
        ('', None),
        ('localhost:http', None),
    ],
)
def test_bad_address_has_a_suggestion(text: str, meant: str | None) -> None:
    with pytest.raises(UsageError) as raised:
        parse_bind(text)
    assert str(raised.value).partition('; ')[2] == ('' if meant is None else f'did you mean {meant!r}?')


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        (['server', 'app.py'], "there is no command 'server'; use serve, get or doctor"),
        (
            ['app.py'],
            ("there is no command 'app.py'; use serve, get or doctor; did you mean 'geventnode serve app.py'?"),
        ),
        (
            ['app:app', '-b', '80'],
            ("there is no command 'app:app'; use serve, get or doctor; did you mean 'geventnode serve app:app'?"),
        ),
        (
            ['http://a/'],
            ("there is no command 'http://a/'; use serve, get or doctor; did you mean 'geventnode get http://a/'?"),
        ),
    ],
)
def test_unknown_command_has_a_suggestion(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert capsys.readouterr().err.endswith(f'geventnode: error: {complaint}\n')


def test_address_without_bind_has_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['serve', 'app.py', '0.0.0.0:80'])
    assert capsys.readouterr().err.endswith(': 0.0.0.0:80; 0.0.0.0:80: use --bind 0.0.0.0:80\n')
