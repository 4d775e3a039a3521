"""The application before an HTTP client, and the command line, on the test's database."""

from __future__ import annotations

from tests.features.commands import aurora
from tests.features.organizations.conftest import code_of, house

__all__ = ["aurora", "code_of", "house"]
