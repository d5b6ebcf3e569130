"""What ``run.py`` is made of: one module for each kind of trouble, and what they share."""
