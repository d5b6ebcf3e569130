"""Cases for the parsers, as data, and what reads them."""

from __future__ import annotations
