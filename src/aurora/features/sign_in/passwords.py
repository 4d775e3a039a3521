"""Passwords: which are taken, how they are hashed (argon2id), and how a wrong one is compared."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from aurora.core.errors import Unavailable
from aurora.features.sign_in.model import PasswordUnsuitable

R = TypeVar("R")

MIN_CHARACTERS: Final = 12
MAX_BYTES: Final = 1_000

# RFC 9106, section 4: the second recommended option, for where 2 GiB a hash are too much.
TIME_COST: Final = 3
MEMORY_KIB: Final = 64 * 1024
LANES: Final = 4
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32

MAX_HASHES_AT_ONCE: Final = 2
"""Threads, and with them 64 MiB each."""
MAX_HASHES_WAITING: Final = 32
"""Past these a sign-in is told to come back: a flood must not hold memory and connections."""
RETRY_AFTER_S: Final = 2

# What the password of nobody is compared with, so that a stranger's attempt takes as long as a
# member's. A literal: computing it at first use would make the first stranger twice as slow.
DUMMY_HASH: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$M2TMmMZRCI0kRNSePrU/3Q$"
    "A8LQBbJ/hi2deAttPl2ziYyWpf/yZKH2d+mX2sElBZE"
)

_hasher = PasswordHasher(
    time_cost=TIME_COST,
    memory_cost=MEMORY_KIB,
    parallelism=LANES,
    salt_len=SALT_BYTES,
    hash_len=HASH_BYTES,
    type=Type.ID,
)
_threads = ThreadPoolExecutor(MAX_HASHES_AT_ONCE, thread_name_prefix="argon2")
_waiting = 0


class TooManyHashes(Unavailable):
    """More people sign in at this moment than the machine can compare passwords for."""

    code, title = "sign_in_busy", "Too many people sign in right now; try again"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing found.

    Attributes:
        matches: The password is the one behind the hash.
        needs_rehash: It was hashed with other parameters than today's.
    """

    matches: bool
    needs_rehash: bool = False


def check_password(password: str, *, email: str) -> str:
    """Return a new password as it is hashed: NFKC (NIST SP 800-63B-4, section 3.1.1.2).

    The rules are length and nothing else, as NIST asks: no compulsory digits, no expiry.

    Raises:
        PasswordUnsuitable: It is too short, too long, or the person's own address.
    """
    normal = normalise(password)
    if len(password.encode("utf-8", "surrogatepass")) > MAX_BYTES or not _encodes(normal):
        raise PasswordUnsuitable(f"A password has at most {MAX_BYTES:,} bytes of valid text.")
    if len(normal) < MIN_CHARACTERS:
        raise PasswordUnsuitable(f"A password has at least {MIN_CHARACTERS} characters.")
    if normal.casefold() == normalise(email).casefold():
        raise PasswordUnsuitable("A password cannot be the person's own e-mail address.")
    return normal


def normalise(text: str) -> str:
    """Return the NFKC form: one keyboard types é as one character, another as two."""
    return unicodedata.normalize("NFKC", text)


async def hash_password(password: str) -> str:
    """Return the argon2id hash, with its salt and parameters, of a checked password.

    Raises:
        TooManyHashes: Too many wait already.
    """
    return await _in_a_thread(_hash, password)


async def verify_password(password: str, password_hash: str | None) -> Verdict:
    """Compare a password with a hash; with None the same work is done and nothing matches.

    Raises:
        TooManyHashes: Too many wait already.
    """
    if len(password) > MAX_BYTES or len(password.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        # No stored password is that long, and whose it would be has not been asked.
        return Verdict(matches=False)
    if password_hash is None:
        await _in_a_thread(_verify, password, DUMMY_HASH)
        return Verdict(matches=False)
    return await _in_a_thread(_verify, password, password_hash)


async def _in_a_thread(work: Callable[..., R], *arguments: str) -> R:
    """Run the work where the loop is not held up: the library lets go of the interpreter's lock."""
    global _waiting  # noqa: PLW0603 - one count for the one pool of threads
    if _waiting >= MAX_HASHES_WAITING:
        raise TooManyHashes(retry_after_s=RETRY_AFTER_S)
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)
    finally:
        _waiting -= 1


def _hash(password: str) -> str:
    return _hasher.hash(password.encode("utf-8"))


def _verify(password: str, password_hash: str) -> Verdict:
    try:
        _hasher.verify(password_hash, normalise(password).encode("utf-8", "surrogatepass"))
    except InvalidHashError:
        # Another system's hash: it takes as long, and never matches.
        _verify(password, DUMMY_HASH)
        return Verdict(matches=False)
    except VerificationError:
        return Verdict(matches=False)
    return Verdict(matches=True, needs_rehash=_hasher.check_needs_rehash(password_hash))


def _encodes(text: str) -> bool:
    try:
        return len(text.encode("utf-8")) <= MAX_BYTES
    except UnicodeEncodeError:
        return False
