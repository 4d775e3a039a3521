"""The HTTP door: routes, pages, and problem documents."""
