"""Loggers that stay enabled when the application configures logging.

``logging.config`` disables every existing logger that the configuration does not name, unless
``disable_existing_loggers`` is False. By default, ``dictConfig`` and ``fileConfig`` therefore silence the program that
imports the application. Settings that the application makes by name, or on a logger itself, keep their effect.
"""

from __future__ import annotations

import logging
import logging.config
import sys
from typing import Any

__all__ = ['keep_enabled']


def keep_enabled(*names: str) -> None:
    """Keep the loggers ``names`` enabled when a configuration does not name them.

    Call it before the application is imported, and again for loggers that are created later. It also enables loggers
    that a configuration has already disabled.
    """
    for name in names:
        logger = logging.getLogger(name)
        if not getattr(logger, 'stays_enabled', False):
            logger.__class__ = _stays_enabled(type(logger))
            logger.disabled = False


def _stays_enabled(base: type[logging.Logger]) -> Any:
    """Return a subclass of ``base``, which an application can choose with ``logging.setLoggerClass``."""

    class StaysEnabled(base):  # type: ignore[misc,valid-type]  # the base class is dynamic
        stays_enabled = True

        @property
        def disabled(self) -> Any:
            return self.__dict__['disabled']

        @disabled.setter
        def disabled(self, disabled: Any) -> None:
            by_configuration = sys._getframe(1).f_globals.get('__name__') == logging.config.__name__
            self.__dict__['disabled'] = disabled and not by_configuration

    return StaysEnabled
