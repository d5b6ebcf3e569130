"""What ``run.py`` is made of: servers, their load, transfers, idle memory, parsers, and the tables of results."""
