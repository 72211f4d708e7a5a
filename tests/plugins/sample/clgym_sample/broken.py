"""Cannot be imported."""

import a_package_nobody_has  # type: ignore[import-not-found]  # noqa: F401
