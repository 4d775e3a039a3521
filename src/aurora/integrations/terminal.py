"""What every command shares: the database, how a result is shown, and how a failure ends."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from aurora.core.errors import AuroraError
from aurora.db.pool import Pool, open_pool
from aurora.integrations.textfiles import UnreadableFile

T = TypeVar("T")
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Where the file goes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
MAX_COMMAND_CONNECTIONS = 4

PIPED_WIDTH = 200

# C0 and C1 without tab and line feed.
_CONTROLS = {code: f"\\u{code:04x}" for code in (*range(9), *range(11, 32), *range(127, 160))}

# A pipe has no width; folding to 80 columns would only tear what the next program reads.
out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
err = Console(stderr=True, highlight=False)


class FileNotWritten(AuroraError):
    """The file cannot be written."""

    status, code, title = 500, "file_not_written", "The file cannot be written"


@dataclasses.dataclass(frozen=True, slots=True)
class Terminal:
    """What the command line was told, handed to each command as `ctx.obj`.

    Attributes:
        connect: Gives the application's DSN, and for as long as it is open a server behind it.
    """

    connect: Callable[[], AbstractContextManager[str]]


def run(ctx: typer.Context, work: Callable[[Pool], Coroutine[Any, Any, T]]) -> T:
    """Run one command's work on an open pool and return its result.

    A refusal ends the command with one clear line and exit code 1.
    """
    terminal: Terminal = ctx.obj

    async def main(dsn: str) -> T:
        pool = await open_pool(dsn, max_size=MAX_COMMAND_CONNECTIONS, name="aurora-cli")
        try:
            return await work(pool)
        finally:
            await pool.close()

    with failing_clearly(), terminal.connect() as dsn:
        return asyncio.run(main(dsn))


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Turn a refusal into one line on standard error and exit code 1."""
    try:
        yield
    except AuroraError as error:
        err.print(f"[red]aurora:[/red] {error.detail} [dim]({error.code})[/dim]", soft_wrap=True)
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from interrupt


def read_file(path: Path, *, max_bytes: int) -> bytes:
    """Return a file, or one byte more of it than `max_bytes`, so that whoever takes it refuses it.

    Raises:
        typer.Exit: It is missing, is no file, or may not be read; one line says so.
    """
    with failing_clearly():
        try:
            with path.open("rb") as file:
                return file.read(max_bytes + 1)
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror}.") from error


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file or none, and say how long it is; a full disk leaves the old one.

    Raises:
        typer.Exit: The folder is missing, may not be written, or is full; one line says so.
    """
    with failing_clearly():
        try:
            if path.exists() and not path.is_file():
                # A pipe or a terminal takes what comes; only a file can be put in another's place.
                path.write_bytes(content)
            else:
                _replace(path, content)
        except OSError as error:
            raise FileNotWritten(f"{path} cannot be written: {error.strerror}.") from error
    err.print(f"{path}: {len(content):,} bytes", soft_wrap=True)


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def printable(text: str) -> str:
    """Return a text, or JSON, whose control characters are spelled out.

    What a customer sent may neither move the cursor of who reads it nor name their window.
    """
    return text.translate(_CONTROLS)


def as_plain(value: Any) -> Any:
    """Return the value as what JSON can hold; Decimals become strings, dates ISO 8601."""
    return msgspec.to_builtins(value, order="deterministic")


def show(value: Any, *, json: bool, columns: Sequence[str] = ()) -> None:
    """Print a result: JSON for programs, a table or a list of fields for people.

    Args:
        value: One record or a list of them: dataclasses, structs, or mappings.
        json: As the --json option says.
        columns: Which fields a table shows, in order; all when empty.
    """
    plain = as_plain(value)
    if json:
        pretty = msgspec.json.format(msgspec.json.encode(plain), indent=2).decode()
        out.out(printable(pretty), highlight=False)
        return
    if isinstance(plain, list):
        _show_table(plain, columns)
    elif isinstance(plain, Mapping):
        for name in columns or plain:
            out.print(f"[dim]{name}[/dim]  {_cell(plain.get(name))}", soft_wrap=True)
    else:
        out.print(_cell(plain))


def _show_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    if not rows:
        out.print("[dim]nothing to show[/dim]")
        return
    names = columns or tuple(rows[0])
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    out.print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    if isinstance(value, dict | list):
        return escape(printable(msgspec.json.encode(value).decode()))
    return escape(printable(str(value)))
