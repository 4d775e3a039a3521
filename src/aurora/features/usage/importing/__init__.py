"""Reads usage out of files: access logs, NDJSON, CSV, and CloudEvents.

I own the formats, the ids of lines that carry none, and the resumable run through a file. I do not
own storing: events go to whatever `ingest` the caller gives, and its receipt is what counts.
"""

from aurora.features.usage.importing.formats import (
    FORMATS,
    Defaults,
    Format,
    Parsed,
    Rejected,
    UnknownFormat,
)
from aurora.features.usage.importing.ordinals import Position
from aurora.features.usage.importing.progress import (
    Checkpoint,
    Counts,
    ImportReport,
    LineConflict,
    LineRejection,
    Progress,
    Saved,
)
from aurora.features.usage.importing.reader import UsageFile, parse_file
from aurora.features.usage.importing.routes import DEFAULT_ROUTES, Route, Routes
from aurora.features.usage.importing.run import Retry, import_file

__all__ = [
    "DEFAULT_ROUTES",
    "FORMATS",
    "Checkpoint",
    "Counts",
    "Defaults",
    "Format",
    "ImportReport",
    "LineConflict",
    "LineRejection",
    "Parsed",
    "Position",
    "Progress",
    "Rejected",
    "Retry",
    "Route",
    "Routes",
    "Saved",
    "UnknownFormat",
    "UsageFile",
    "import_file",
    "parse_file",
]
