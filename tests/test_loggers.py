"""Loggers and the configurations of applications."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geventnode.loggers import keep_enabled

NAME = 'geventnode.tests.kept'

FILE = """
[loggers]
keys=root
[handlers]
keys=
[formatters]
keys=
[logger_root]
level=INFO
handlers=
"""


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Provide a new logger, and restore the logging system afterwards."""
    manager, root = logging.Logger.manager, logging.root
    before = (
        root.handlers[:],
        root.level,
        {name: made.disabled for name, made in manager.loggerDict.items() if isinstance(made, logging.Logger)},
    )
    yield logging.getLogger(NAME)
    root.handlers[:], level, disabled = before
    root.setLevel(level)
    for name, value in disabled.items():
        logging.getLogger(name).disabled = value
    manager.loggerDict.pop(NAME)


def by_dictionary(directory: Path, **more: Any) -> None:
    logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO'}, **more})


def by_file(directory: Path) -> None:
    path = directory / 'logging.ini'
    path.write_text(FILE)
    logging.config.fileConfig(path)


@pytest.mark.parametrize('configure', [by_dictionary, by_file])
def test_a_configuration_without_the_logger_keeps_it_enabled(
    logger: logging.Logger, tmp_path: Path, configure: Callable[[Path], None]
) -> None:
    other = logging.getLogger('geventnode.tests.other')
    keep_enabled(NAME)
    configure(tmp_path)
    assert other.disabled
    assert not logger.disabled
    assert logger.isEnabledFor(logging.INFO)
    del logging.Logger.manager.loggerDict[other.name]


@pytest.mark.parametrize('configure', [by_dictionary, by_file])
def test_a_disabled_logger_is_enabled(
    logger: logging.Logger, tmp_path: Path, configure: Callable[[Path], None]
) -> None:
    configure(tmp_path)
    assert logger.disabled
    keep_enabled(NAME)
    assert not logger.disabled


def test_settings_of_the_logger_are_effective(logger: logging.Logger, tmp_path: Path) -> None:
    """They are made by name, or on the logger itself."""
    keep_enabled(NAME)
    by_dictionary(tmp_path, loggers={NAME: {'level': 'ERROR', 'propagate': False}})
    assert not logger.isEnabledFor(logging.WARNING)
    assert not logger.propagate
    logger.disabled = True
    assert not logger.isEnabledFor(logging.CRITICAL)
    keep_enabled(NAME)
    assert logger.disabled


def test_the_logger_class_of_the_application_remains(logger: logging.Logger, tmp_path: Path) -> None:
    """The new class is derived from it."""

    class Counting(logging.Logger):
        pass

    logger.__class__ = Counting
    keep_enabled(NAME)
    by_dictionary(tmp_path)
    assert isinstance(logger, Counting)
    assert not logger.disabled
