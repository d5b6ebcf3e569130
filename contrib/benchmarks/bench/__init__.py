"""The modules of ``run.py``: servers, load, transfers, idle memory, parsers, and the tables of results."""
