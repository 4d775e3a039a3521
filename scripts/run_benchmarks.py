"""Run the benchmarks in bench/, show what each measured, and fail when a goal is missed."""

# ruff: noqa: T201
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIELDS = frozenset({"name", "value", "unit", "goal", "met", "details"})
TIMEOUT_S = 3_600


def benchmarks() -> list[str]:
    """Return the names of all benchmarks: bench/<name>.py and bench/<name>/__main__.py."""
    folder = ROOT / "bench"
    files = {path.stem for path in folder.glob("*.py") if path.stem[0] != "_"}
    return sorted(files | {path.parent.name for path in folder.glob("*/__main__.py")})


def run(name: str) -> dict[str, Any]:
    """Run one benchmark, pass its output on, and return its result.

    Raises:
        SystemExit: It failed, or its last line is not the JSON object that every benchmark owes.
    """
    print(f"== {name}", flush=True)
    last = ""
    with subprocess.Popen(  # noqa: S603 - the name is one of ours
        [sys.executable, "-m", f"bench.{name}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last = line.strip() or last
        code = process.wait(TIMEOUT_S)
    if code != 0:
        raise SystemExit(f"bench.{name} ended with exit code {code}")
    try:
        result = json.loads(last)
    except ValueError:
        result = None
    if not isinstance(result, dict) or not FIELDS.issubset(result):
        raise SystemExit(f"bench.{name} must end with a JSON line of {', '.join(sorted(FIELDS))}")
    return result


def main(wanted: list[str]) -> int:
    """Run the wanted benchmarks, or all; return 1 if any goal was missed."""
    known = benchmarks()
    if unknown := set(wanted) - set(known):
        print(f"No benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    results = [run(name) for name in wanted or known]
    width = max((len(result["name"]) for result in results), default=0)
    print()
    for result in results:
        verdict = "met   " if result["met"] else "MISSED"
        print(
            f"{verdict}  {result['name']:{width}}  {result['value']} {result['unit']}"
            f"  (goal: {result['goal']})"
        )
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
