"""Streams: sources and sinks of bytes that wait cooperatively, and what connects them."""

from geventnode.stream.duplex import Duplex
from geventnode.stream.finished import finished
from geventnode.stream.pipeline import pipeline
from geventnode.stream.readable import Readable
from geventnode.stream.writable import Writable

__all__ = ['Duplex', 'Readable', 'Writable', 'finished', 'pipeline']
