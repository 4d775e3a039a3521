"""Commands about the schema itself: supabase export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from aurora.integrations.terminal import JsonOption, failing_clearly, out, show

supabase = typer.Typer(help="Supabase: the same schema as a project.", no_args_is_help=True)


@supabase.command("export")
def export(
    directory: Annotated[Path, typer.Argument(help="Where supabase/ is written.")],
    force: Annotated[bool, typer.Option(help="Also into a folder with other files.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a project that the Supabase CLI accepts: configuration, migrations, seed."""
    from aurora.apps.demo import SEED
    from aurora.db.export import export_supabase
    from aurora.db.migrator import packaged_migrations
    from aurora.integrations.jobs import install_sql

    # The queue has no history of its own, and the first file, which makes its roles, is the only
    # one that no later release adds to: a version of the queue's own would be new in each.
    first, *others = packaged_migrations()
    with_queue = replace(first, sql=f"{first.sql}\n-- The job queue.\n{install_sql()}")
    with failing_clearly():
        written = export_supabase(
            directory,
            [with_queue, *others],
            [("seed.sql", SEED.read_text("utf-8"))],
            force=force,
        )
    if json:
        show({"written": [str(file) for file in written]}, json=True)
    else:
        out.print(f"{len(written)} files written to {directory}/supabase")
