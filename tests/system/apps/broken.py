"""A target that needs what is not there."""

import not_installed  # noqa: F401 - that is the point
