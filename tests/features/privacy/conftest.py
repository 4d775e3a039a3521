"""The application and its callers, as the organizations room has them."""

from tests.features.organizations.conftest import code_of, house

__all__ = ["code_of", "house"]
