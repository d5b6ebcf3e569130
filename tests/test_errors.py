"""Errors: built-in base classes, Node's codes, messages of limited length, and their way between processes."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from geventnode import errors

ROOT = Path(__file__).parent.parent
CLASSES = [each for each in map(vars(errors).get, errors.__all__) if isinstance(each, type)]
ERRORS = [each for each in CLASSES if issubclass(each, errors.GeventnodeError)]


@pytest.mark.parametrize(
    ('name', 'base'),
    [
        ('ParseError', ValueError),
        ('BodyTooLarge', errors.ParseError),
        ('IncompleteBody', ConnectionResetError),
        ('ConnectionClosed', BrokenPipeError),
        ('ConnectError', OSError),
        ('ConnectionRefused', ConnectionRefusedError),
        ('ConnectionRefused', errors.ConnectError),
        ('NameNotResolved', errors.ConnectError),
        ('RequestTimeout', TimeoutError),
        ('PrematureClose', ConnectionResetError),
        ('InvalidInput', ValueError),
        ('InvalidHeader', errors.InvalidInput),
        ('UnknownOption', TypeError),
        ('HeadersSent', RuntimeError),
        ('StreamModeError', errors.StreamError),
        ('WriteAfterEnd', errors.StreamError),
        ('StreamError', RuntimeError),
        ('ServerNotRunning', RuntimeError),
        ('WrongThread', RuntimeError),
        ('UnhandledError', RuntimeError),
    ],
)
def test_errors_have_builtin_bases(name: str, base: type[BaseException]) -> None:
    assert issubclass(getattr(errors, name), base)


def test_all_errors_have_one_base_class() -> None:
    others = {each.__name__ for each in CLASSES} - {each.__name__ for each in ERRORS}
    assert others == {'ClientDisconnected', 'MaxListenersExceededWarning', 'RequestRefused'}


@pytest.mark.parametrize('error', [errors.ClientDisconnected, errors.RequestRefused])
def test_exceptions_for_views_are_not_swallowed_by_except_exception(error: type[BaseException]) -> None:
    assert not issubclass(error, Exception)


@pytest.mark.parametrize('error', ERRORS, ids=lambda each: each.__name__)
def test_every_error_has_a_code(error: type[errors.GeventnodeError]) -> None:
    assert error.code
    assert error.code == error.code.upper()


def test_excerpt_is_whole_when_short() -> None:
    assert errors.excerpt(b'a\r\n') == "b'a\\r\\n'"


def test_excerpt_is_cut_when_long() -> None:
    assert errors.excerpt(b'x' * 65) == f"{b'x' * 64!r}... (65 bytes)"


def test_excerpt_of_exactly_the_limit_is_whole() -> None:
    assert errors.excerpt(b'x' * 64) == repr(b'x' * 64)


def test_parse_error_has_code_status_offset_and_data() -> None:
    error = errors.ParseError('no colon', code='HPE_INVALID_HEADER_TOKEN', status=431, offset=84, data=b'x' * 100)
    assert (error.code, error.status, error.offset, error.data) == ('HPE_INVALID_HEADER_TOKEN', 431, 84, b'x' * 64)
    assert str(error) == f'no colon: {errors.excerpt(b"x" * 100)}'


def test_parse_error_without_bytes_is_the_message_alone() -> None:
    error = errors.ParseError('no colon')
    assert (str(error), error.code, error.status, error.offset) == ('no colon', 'HPE_INVALID', 400, 0)


def test_connect_error_names_the_errno_the_host_and_the_phase() -> None:
    error = errors.ConnectError(errno.ENETUNREACH, 'Network is unreachable', 'example.org', 80)
    assert (error.code, error.host, error.port, error.phase) == ('ENETUNREACH', 'example.org', 80, 'connect')
    assert error.errno == errno.ENETUNREACH
    assert error.strerror == 'connect example.org:80: Network is unreachable'


def test_connect_error_of_a_path_has_no_port() -> None:
    error = errors.ConnectionRefused(errno.ECONNREFUSED, 'Connection refused', '/run/x.sock')
    assert (error.code, error.port) == ('ECONNREFUSED', None)
    assert error.strerror == 'connect /run/x.sock: Connection refused'


def test_connect_error_with_an_unknown_number_keeps_its_general_code() -> None:
    assert errors.ConnectError(99999, '?', 'x').code == 'ECONNFAILED'


def test_a_name_without_address_is_enotfound() -> None:
    error = errors.NameNotResolved(errno.EHOSTUNREACH, 'Name or service not known', 'x.invalid', 80)
    assert (error.code, error.phase) == ('ENOTFOUND', 'resolve')


def test_invalid_input_takes_a_code() -> None:
    assert errors.InvalidInput('x').code == 'ERR_INVALID_ARG_VALUE'
    assert errors.InvalidInput('x', 'ERR_X').code == 'ERR_X'
    assert errors.InvalidInput.code == 'ERR_INVALID_ARG_VALUE'


def test_errors_pass_through_a_pool_of_processes() -> None:
    """Each exception of the package arrives whole; ``test_errors_copies.py`` copies them within a process."""
    ran = subprocess.run(
        [sys.executable, '-m', 'tests.failures'], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, '0 faults\n'), ran.stdout + ran.stderr
