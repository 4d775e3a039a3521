"""Writes a folder that the Supabase CLI accepts as a project of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from aurora.core.errors import Conflict, Invalid
from aurora.db.migrator import Migration

MARKER: Final = ".aurora-export.json"
"""Names what the last export wrote, so that the next one replaces exactly that."""

SEED: Final = "seed.sql"

# The members that the CLI needs to know; everything else has its default. Only `public` is exposed:
# the schemas of the platform are for SQL alone.
_CONFIG: Final = """\
project_id = "aurora"

[api]
enabled = true
schemas = ["public"]
extra_search_path = ["public"]
max_rows = 1000

[db]
major_version = 17

[db.migrations]
enabled = true

[db.seed]
enabled = {seeded}
sql_paths = ["./seed.sql"]
"""


class FolderNotOurs(Conflict):
    """The folder holds files that no export of Aurora wrote."""

    code, title = "folder_not_ours", "The folder holds somebody else's files"


def export_supabase(
    directory: Path,
    migrations: Iterable[Migration],
    extra: Sequence[tuple[str, str]] = (),
    *,
    force: bool = False,
) -> tuple[Path, ...]:
    """Write `supabase/` with its configuration, the migrations, and further files.

    Doing it again brings the folder up to date: files of an earlier export that are no longer part
    of it go, files of others stay.

    Args:
        directory: Where `supabase/` goes; made when missing.
        migrations: What becomes supabase/migrations.
        extra: Further files as (path below `supabase/`, text), such as `seed.sql` or
            `tests/isolation.test.sql`.
        force: Write also into a folder with others' files, and over files of the same name.

    Returns:
        The files written, sorted.

    Raises:
        FolderNotOurs: The folder is not empty, no export wrote it, and `force` is not set.
        Invalid: A path in `extra` leads out of `supabase/` or names a file twice.
    """
    root = directory / "supabase"
    files = _contents(migrations, extra)
    marker = root / MARKER
    if not force and not marker.exists() and directory.is_dir() and any(directory.iterdir()):
        raise FolderNotOurs(f"{directory} is not empty; choose another folder or use --force")
    for stale in set(_written_before(marker)) - files.keys():
        (root / stale).unlink(missing_ok=True)
    for name, text in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", newline="\n")
    marker.write_text(json.dumps(sorted(files), indent=1) + "\n", encoding="utf-8")
    return tuple(sorted(root / name for name in files))


def _contents(migrations: Iterable[Migration], extra: Sequence[tuple[str, str]]) -> dict[str, str]:
    seeded = str(any(name == SEED for name, _ in extra)).lower()
    files = {"config.toml": _CONFIG.format(seeded=seeded)}
    given = [(f"migrations/{migration.filename}", migration.sql) for migration in migrations]
    for name, text in (*given, *extra):
        if not _is_inside(name):
            raise Invalid(f"{name!r} is not a path below supabase/")
        if name in files:
            raise Invalid(f"{name!r} is given twice")
        files[name] = text
    return files


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    is_plain = bool(path.parts) and str(path) == name and "\\" not in name and "\0" not in name
    return is_plain and not path.is_absolute() and ".." not in path.parts and name != MARKER


def _written_before(marker: Path) -> list[str]:
    try:
        names = json.loads(marker.read_text("utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:
        # Whatever it says cannot be trusted with deleting files.
        return []
    return [name for name in names if isinstance(name, str) and _is_inside(name)]
