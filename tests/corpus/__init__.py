"""Cases for the parsers, as data, and the code that runs them."""

from __future__ import annotations
