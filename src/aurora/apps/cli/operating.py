"""Commands that run the platform: up, serve, worker, migrate, doctor, demo."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from aurora.apps.settings import Settings, load_settings
from aurora.integrations.terminal import EXIT_FAILED, JsonOption, err, failing_clearly, out, show

SETTINGS = "aurora.settings"

PortOption = Annotated[
    int | None, typer.Option(min=1, max=65535, help="In place of AURORA_PORT.", show_default=False)
]
UrlOption = Annotated[
    str | None, typer.Option(help="In place of AURORA_DATABASE_URL.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(up)
    app.command()(serve)
    app.command()(worker)
    app.command()(migrate)
    app.command()(doctor)
    app.command()(demo)


def up(ctx: typer.Context, port: PortOption = None, database_url: UrlOption = None) -> None:
    """Start everything: database, schema, demo organization, server, and worker."""
    from aurora.apps.database import database, prepare
    from aurora.apps.demo import DEMO_KEY
    from aurora.apps.logs import configure_logs
    from aurora.apps.serving import listening, run
    from aurora.apps.serving import serve as run_server

    configure_logs()
    with failing_clearly():
        settings = _settings(ctx, port=port, database_url=database_url)
        settings.token()
        with listening(settings.host, settings.port) as listener:
            if settings.database_url is None:
                err.print("[dim]starting PostgreSQL[/dim]")
            with database(settings) as where:
                applied = asyncio.run(prepare(where))
                if applied:
                    err.print(f"[dim]applied {len(applied)} migrations[/dim]")
                _make_demo(where.dsn)
                run(
                    run_server(
                        listener,
                        where,
                        settings,
                        with_worker=True,
                        demo_key_prefix=DEMO_KEY[:15],
                        on_ready=lambda: _say_what_to_try(settings, where.dsn),
                    )
                )
                err.print("[dim]stopping[/dim]")


def serve(ctx: typer.Context, port: PortOption = None, database_url: UrlOption = None) -> None:
    """Serve the HTTP API; the worker runs elsewhere (aurora worker)."""
    from aurora.apps.database import database, prepare
    from aurora.apps.logs import configure_logs
    from aurora.apps.serving import listening, run
    from aurora.apps.serving import serve as run_server

    configure_logs()
    with failing_clearly():
        settings = _settings(ctx, port=port, database_url=database_url)
        settings.token()
        with listening(settings.host, settings.port) as listener, database(settings) as where:
            if where.is_embedded:
                asyncio.run(prepare(where))
            run(
                run_server(
                    listener,
                    where,
                    settings,
                    with_worker=False,
                    on_ready=lambda: err.print(f"serving on {_address(settings)}"),
                )
            )


def worker(ctx: typer.Context, database_url: UrlOption = None) -> None:
    """Run background work: folding usage, warnings, billing, delivery."""
    from aurora.apps.database import database, prepare
    from aurora.apps.logs import configure_logs
    from aurora.apps.serving import stop_at_signals
    from aurora.apps.worker import work

    async def run(dsn: str, settings: Settings) -> None:
        with stop_at_signals() as stop:
            await work(dsn, settings.post(), stop)

    configure_logs()
    with failing_clearly():
        settings = _settings(ctx, database_url=database_url)
        with database(settings) as where:
            if where.is_embedded:
                asyncio.run(prepare(where))
            err.print("working; Ctrl-C stops")
            asyncio.run(run(where.dsn, settings))


def migrate(ctx: typer.Context, database_url: UrlOption = None, json: JsonOption = False) -> None:
    """Bring the schema and the job queue up to date; safe to run twice and at once."""
    from aurora.apps.database import database, prepare

    with failing_clearly():
        settings = _settings(ctx, database_url=database_url)
        with database(settings) as where:
            applied = asyncio.run(prepare(where))
    names = [migration.filename for migration in applied]
    if json:
        show({"applied": names}, json=True)
    else:
        out.print("\n".join(names) if names else "nothing to apply")


def doctor(
    ctx: typer.Context,
    mend: Annotated[
        bool, typer.Option("--mend", help="First make the months of usage that are missing.")
    ] = False,
    database_url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Check roles, row level security, partitions, clock, settings, and disk.

    It changes nothing, but with --mend.
    """
    from aurora.apps import doctor as ours
    from aurora.apps.database import database

    with failing_clearly():
        settings = _settings(ctx, database_url=database_url)
        with database(settings) as where:
            if mend:
                made = asyncio.run(ours.mend(where))
                err.print(f"made {made} months of usage")
            findings = asyncio.run(ours.examine(where, settings))
    show(findings, json=json, columns=("check", "status", "detail"))
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def demo(
    ctx: typer.Context,
    events: Annotated[int | None, typer.Option(min=1, help="How many in the year.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed gives another year.")] = 1,
    database_url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Make the demo organization and its year of usage; a second time adds nothing."""
    from aurora.apps.database import database, prepare

    with failing_clearly():
        settings = _settings(ctx, database_url=database_url)
        with database(settings) as where:
            if where.is_embedded:
                asyncio.run(prepare(where))
            added = _make_demo(where.dsn, events=events, seed=seed)
    if json:
        show({"events_added": added}, json=True)
    else:
        out.print(f"{added:,} events added to the organization demo")


def _make_demo(dsn: str, *, events: int | None = None, seed: int = 1) -> int:
    from aurora.apps.demo import DEMO_EVENTS, make_demo
    from aurora.db.pool import open_pool

    total = events or DEMO_EVENTS
    columns = (
        TextColumn("a year of usage for the demo organization"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )

    async def run() -> int:
        pool = await open_pool(dsn, max_size=4, name="aurora-demo")
        try:
            with Progress(*columns, console=err, transient=True) as progress:
                task = progress.add_task("demo", total=total)
                return await make_demo(
                    pool,
                    events=total,
                    seed=seed,
                    on_progress=lambda count: progress.advance(task, count),
                )
        finally:
            await pool.close()

    return asyncio.run(run())


def _settings(ctx: typer.Context, **overrides: object) -> Settings:
    base: Settings = ctx.meta[SETTINGS]
    given = {name: value for name, value in overrides.items() if value is not None}
    return base if not given else load_settings(**{**base.model_dump(), **given})


def _address(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _say_what_to_try(settings: Settings, dsn: str) -> None:
    from aurora.apps.api.pages import curl_commands
    from aurora.apps.demo import DEMO_KEY
    from aurora.core import clock

    address = _address(settings)
    commands = "\n\n".join(command.text for command in curl_commands(address, clock.now()))
    # Plain print: what is pasted must not be folded at the window's width.
    typer.echo(f"""
Aurora runs on {address}      start page: {address}/      API docs: {address}/docs

Try it in another terminal:

export AURORA_KEY={DEMO_KEY}

{commands}

Operators' service token (also in {settings.home}/service_token):
  export AURORA_SERVICE_TOKEN={settings.token()}
psql:
  psql '{dsn}'

Ctrl-C stops everything; the data stays in {settings.home}.
""")
