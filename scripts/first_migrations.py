"""Writes the first release's migrations anew from the rooms' files; after the release they stay."""

from __future__ import annotations

from pathlib import Path

from aurora import __version__
from aurora.apps import house
from aurora.db.definitions import platform_files

FOLDER = Path(house.__file__).parent.parent / "db" / "migrations"
FIRST = 20261124000000
STEP = 100


def main() -> None:
    """Write one migration for the platform and one a room."""
    if not __version__.startswith("0."):
        raise SystemExit("Aurora is released: write a new migration with make migration name=…")
    parts = [("platform", platform_files())]
    parts += [(room.name, room.sql) for room in house.rooms() if room.sql]
    for old in FOLDER.glob("*.sql"):
        old.unlink()
    for number, (name, files) in enumerate(parts):
        text = "\n".join(file.read_text("utf-8").strip() + "\n" for file in files)
        (FOLDER / f"{FIRST + number * STEP}_{name}.sql").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
