"""A target that imports a missing module."""

import not_installed  # noqa: F401 - the import has to fail
