"""Streams of bytes that block cooperatively, and functions that connect them."""

from geventnode.stream.duplex import Duplex
from geventnode.stream.finished import finished
from geventnode.stream.pipeline import pipeline
from geventnode.stream.readable import Readable
from geventnode.stream.writable import Writable

__all__ = ['Duplex', 'Readable', 'Writable', 'finished', 'pipeline']
