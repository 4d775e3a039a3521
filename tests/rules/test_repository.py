"""What must never be committed: secrets, and names of the machines the work was done on."""

from __future__ import annotations

import re

import pytest
from tests.rules.sources import breaches, expect_none, matching, numbered

from aurora.core.secrets import (
    generate_api_key,
    generate_service_token,
    is_service_token,
    is_well_formed,
)

# Everything forbidden is written in pieces, so that this file does not hold it.
HOSTS = "|".join(
    re.escape(".".join(pieces))
    for pieces in (
        ("pypi", "org"),
        ("python" + "hosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("deb", "debian", "org"),
        ("proxy", "golang", "org"),
    )
)
_FOLDERS = "|".join(("ho" + "me/[a-z]", "Us" + "ers/[A-Za-z]", "ro" + "ot/", "wo" + "rk/"))
MACHINES = rf"(?<![\w.:}}-])/(?:{_FOLDERS}|opt/(?:whe[e]ls|py[p]i))|C:\\+Users\\"
_MACHINE = re.compile(f"(?i:{HOSTS})|{MACHINES}")

_KEY = re.compile(r"(?:tro_live|aur_svc)_[0-9A-Za-z]{32}")
_SECRET = re.compile(
    "|".join(
        (
            "-----BEGIN (?:[A-Z]+ )*PRIV" + "ATE KEY-----",
            r"\b[sr]k_li" + r"ve_[0-9A-Za-z]{16,}",
            r"\bAK" + r"IA[0-9A-Z]{16}\b",
            r"\bgh[pousr]_[0-9A-Za-z]{36}\b",
            r"\bgithub_" + r"pat_[0-9A-Za-z_]{40,}",
            r"\bgl" + r"pat-[0-9A-Za-z_-]{20,}",
            r"\bxox[abprs]-[0-9A-Za-z-]{20,}",
        )
    )
)


def names_a_machine(_name: str, source: str) -> list[str]:
    """Registries and paths are each machine's own setting; a lock file that names one breaks."""
    return numbered(
        (number, f"{match.group()!r} belongs to one machine or registry")
        for number, line in enumerate(source.splitlines(), start=1)
        if (match := _MACHINE.search(line))
    )


def holds_a_secret(_name: str, source: str) -> list[str]:
    """Keys count when their checksum fits, so an example like tro_live_abc... is free to use."""
    found = []
    for number, line in enumerate(source.splitlines(), start=1):
        keys = [key for key in _KEY.findall(line) if is_well_formed(key) or is_service_token(key)]
        if keys or _SECRET.search(line):
            found.append((number, "this looks like a live secret; revoke it, then remove it"))
    return numbered(found)


def loosely_pinned(_name: str, source: str) -> list[str]:
    """A lock line is `name==version`, its marker, and hashes; no option, address, or path."""
    found = []
    logical = source.replace("\\\n", " ")
    for line in logical.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not re.match(r"[a-z0-9-]+==[^ ]+( ;.*)? +--hash=sha256:[0-9a-f]{64}", line):
            found.append((1, f"not pinned with a hash: {line[:60]}"))
        elif re.search(r"://|@ |file:", line):
            found.append((1, f"names an address: {line[:60]}"))
    return numbered(found)


def test_no_file_names_a_machine_or_a_registry() -> None:
    expect_none(breaches(names_a_machine, matching(".*")))


def test_no_file_holds_a_secret() -> None:
    expect_none(breaches(holds_a_secret, matching(".*")))


def test_every_requirement_is_pinned_with_hashes() -> None:
    locks = matching(r"requirements/.*\.txt")
    assert [lock.rpartition("/")[2] for lock in locks] == ["dev.txt", "runtime.txt"]
    expect_none(breaches(loosely_pinned, locks))


@pytest.mark.parametrize(
    "wrong",
    [
        "see https://py" + "pi.org/simple",
        "https://files.Python" + "Hosted.org/x",
        'resolved "https://registry.npm' + 'js.org/x"',
        "cd /ro" + "ot/x",
        "path = '/ho" + "me/kari/aurora'",
        "/Us" + "ers/Kari/x",
        "(/wo" + "rk/x)",
        "C:" + "\\Users\\kari",
        "--find-links /opt/" + "wheels",
    ],
)
def test_the_machine_rule_finds_the_wrong_version(wrong: str) -> None:
    assert len(names_a_machine("x", f"first line\n{wrong}")) == 1


@pytest.mark.parametrize(
    "right",
    [
        "/var/lib/aurora for root",
        "GET https://api.example.com/home/feed and /work-hours",
        "./" + "work/x is under the repository",
        "$HOME/.local/share",
        "a homepage: /homes/list",
    ],
)
def test_the_machine_rule_lets_other_paths_be(right: str) -> None:
    assert names_a_machine("x", right) == []


def test_the_secret_rule_finds_the_wrong_version() -> None:
    for wrong in (
        generate_api_key("production").key,
        generate_service_token(),
        "-----BEGIN RSA PRIV" + "ATE KEY-----",
        "AK" + "IAIOSFODNN7EXAMPLE",
        "sk_li" + "ve_" + "4eC39HqLyjWDarjtT1zdp7dc",
        "gh" + "p_" + "a" * 36,
    ):
        assert len(holds_a_secret("x", f"a\nkey = '{wrong}'\n")) == 1
    for right in (generate_api_key("test").key, "tro_live_" + "a" * 32, "sk_test_" + "a" * 24):
        assert holds_a_secret("x", right) == []


def test_the_lock_rule_finds_the_wrong_version() -> None:
    digest = "--hash=sha256:" + "0" * 64
    right = f"# via x\nuvloop==0.23.0 ; sys_platform != 'win32' \\\n    {digest}\n"
    assert loosely_pinned("x", right) == []
    for wrong in (
        "uvloop==0.23.0",
        f"uvloop>=0.23 {digest}",
        f"--extra-index-url x\nuvloop==0.23.0 {digest}",
        f"uvloop==0.23.0 {digest} # from https://x",
    ):
        assert len(loosely_pinned("x", wrong)) == 1
