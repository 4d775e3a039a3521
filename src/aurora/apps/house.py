"""The ONE list of rooms: what stands here is served, migrated, and worked on; nothing else is."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from aurora.db.definitions import platform_files
from aurora.integrations.hot import HotRoute
from aurora.integrations.jobs import Cron, Job

FEATURES = Path(__file__).parent.parent / "features"

# In this order, because later rooms build on earlier ones; each with its SQL in the order it runs.
ROOMS: Final[dict[str, tuple[str, ...]]] = {
    "organizations": (
        "tables.sql",
        "logic.sql",
        "lifecycle.sql",
        "invitations.sql",
        "policies.sql",
        "logos.sql",
    ),
    "audit": ("tables.sql", "logic.sql", "recording.sql", "attached.sql"),
    "sign_in": ("tables.sql", "logic.sql"),
    "notifications": ("tables.sql", "logic.sql"),
    "plans": ("tables.sql", "rating.sql", "logic.sql"),
    "keys": ("tables.sql", "logic.sql", "policies.sql"),
    "subscriptions": (
        "tables.sql",
        "logic.sql",
        "terms.sql",
        "changes.sql",
        "billing.sql",
        "policies.sql",
    ),
    "usage": (
        "tables.sql",
        "latency.sql",
        "logic.sql",
        "corrections.sql",
        "adopting.sql",
        "folding.sql",
        "rollups.sql",
        "retaining.sql",
        "verifying.sql",
        "policies.sql",
    ),
    "limits": ("tables.sql", "leases.sql", "logic.sql"),
    "gate": ("tables.sql", "logic.sql"),
    "widgets": ("tables.sql", "logic.sql"),
    "invoices": (
        "tables.sql",
        "tax_tables.sql",
        "settling_tables.sql",
        "overdue_tables.sql",
        "logic.sql",
        "bill.sql",
        "impressions.sql",
        "tax.sql",
        "issuing.sql",
        "drafting.sql",
        "numbering.sql",
        "logos.sql",
        "crediting.sql",
        "replaying.sql",
        "settling.sql",
        "adjusting.sql",
        "delivering.sql",
        "running.sql",
        "overdue.sql",
        "simulating.sql",
        "policies.sql",
    ),
    "books": (),
    "replies": ("tables.sql", "logic.sql"),
    "privacy": ("logic.sql",),
}


@dataclass(frozen=True, slots=True)
class Room:
    """One room and its doors."""

    name: str
    sql: tuple[Path, ...]

    def door(self, name: str) -> ModuleType | None:
        """Return a door's module (api, commands, jobs, store), or None where there is none."""
        if not (FEATURES / self.name / f"{name}.py").exists():
            return None
        return importlib.import_module(f"aurora.features.{self.name}.{name}")

    def offered(self, door: str, what: str) -> Any:
        """Return what a door offers under a name, or None."""
        module = self.door(door)
        return None if module is None else getattr(module, what, None)


def rooms() -> tuple[Room, ...]:
    """Return the rooms, lowest first."""
    return tuple(
        Room(name, tuple(FEATURES / name / file for file in files)) for name, files in ROOMS.items()
    )


def definitions() -> tuple[Path, ...]:
    """Return every SQL file that defines the schema, in the order it runs."""
    return (*platform_files(), *(file for room in rooms() for file in room.sql))


def hot_routes() -> tuple[HotRoute, ...]:
    """Return the routes that no framework stands before."""
    return tuple(route for room in rooms() for route in room.offered("api", "HOT_ROUTES") or ())


def crons() -> tuple[Cron, ...]:
    """Return the work that comes round."""
    return tuple(cron for room in rooms() for cron in room.offered("jobs", "CRONS") or ())


def jobs() -> tuple[Job, ...]:
    """Return the work that is enqueued."""
    return tuple(job for room in rooms() for job in room.offered("jobs", "JOBS") or ())
