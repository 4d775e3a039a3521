"""Commands about the schema itself: supabase export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aurora.integrations.terminal import failing_clearly, out

supabase = typer.Typer(help="Supabase: the same schema as a project.", no_args_is_help=True)


@supabase.command("export")
def export(
    directory: Annotated[Path, typer.Argument(help="Where supabase/ is written.")],
    force: Annotated[bool, typer.Option(help="Also into a folder with other files.")] = False,
) -> None:
    """Write a project that the Supabase CLI accepts: configuration, migrations, seed."""
    from aurora.apps.demo import SEED
    from aurora.db.export import export_supabase
    from aurora.db.migrator import packaged_migrations
    from aurora.integrations.jobs import install_sql

    migrations = packaged_migrations()
    # After the last migration, in the same second: the queue has no history of its own.
    queue = f"migrations/{migrations[-1].version + 1}_job_queue.sql"
    with failing_clearly():
        written = export_supabase(
            directory,
            migrations,
            [(queue, install_sql()), ("seed.sql", SEED.read_text("utf-8"))],
            force=force,
        )
    out.print(f"{len(written)} files written to {directory}/supabase")
