"""The modules of ``run.py``: one for each kind of fault, and shared ones."""
