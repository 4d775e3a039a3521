"""Batches of events over HTTP to a real server, and the raw COPY that they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import uuid4

import msgspec
from bench.rig.load import Outcome, Task, send_load, write_bodies
from bench.rig.measure import Stopwatch, interleave, median
from bench.rig.postgres import Bench, Customer
from bench.rig.raw_copy import RawCopy, finished_row, in_batches
from bench.rig.serving import Serving
from bench.rig.usage_events import as_body, marked

from aurora.features.usage.model import UsageEvent

CONNECTIONS: Final = {1_000: 4, 10_000: 2}
"""By the events of a batch: as many as keep the server and PostgreSQL busy at once."""
TIMEOUT_S: Final = 120.0
PATH: Final = "/v1/usage/events"


TIMES: Final = {1_000: 1, 10_000: 3}
"""How often a round sends its events, each time with other ids: of a few large batches the first
and the last would be alone, while one of the two cores waits."""


class OverHttp:
    """The real path: rounds of batches from a load generator to the server, none sent twice.

    Args:
        bench: Where it runs.
        server: The server under load.
        customer: Who sends.
        events: Of a round.
        batch: Events a request.
    """

    def __init__(
        self,
        bench: Bench,
        server: Serving,
        customer: Customer,
        events: Sequence[UsageEvent],
        batch: int,
    ) -> None:
        bodies = bench.folder / f"bodies-of-{batch}"
        write_bodies(bodies, (as_body(each) for each in in_batches(marked(events), batch)))
        self._task = Task(
            port=server.port,
            path=PATH,
            bodies=str(bodies),
            headers={"authorization": f"Bearer {customer.key}"},
            connections=CONNECTIONS[batch],
            seconds=TIMEOUT_S,
            requests=TIMES[batch] * len(events) // batch,
            repeat=True,
            # A batch of other events has other numbers: marks stand beside places in the batch.
            fresh=1 + batch,
        )
        self._batch = batch
        self.sent = 0
        self.watch = Stopwatch(server=server.pid, postgres=bench.server.pid)
        self.outcomes: list[Outcome] = []

    def run(self) -> float:
        """Send the events of a round; return events a second."""
        with self.watch:
            outcome = send_load(self._task)
        self._task.fresh += outcome.requests
        self.outcomes.append(outcome)
        self.sent += outcome.requests * self._batch
        return outcome.requests * self._batch / outcome.wall_s

    @property
    def sent_since(self) -> int:
        """How many events were sent since the warm-up."""
        return self._batch * sum(each.requests for each in self.outcomes)

    def forget(self) -> None:
        """Begin to measure here, after a warm-up."""
        self.outcomes.clear()
        self.watch.reset()


class RawCopies:
    """The raw COPY of the same events, for an organization of its own, with a commit a batch."""

    def __init__(self, bench: Bench, events: Sequence[UsageEvent], batch: int) -> None:
        self._copy = RawCopy(bench.server.dsn())
        organization, key = uuid4(), uuid4()
        self._rows = [
            finished_row(msgspec.structs.replace(event, api_key_id=key), organization)
            for event in events
        ]
        self._batch = batch
        self.watch = Stopwatch(postgres=bench.server.pid)
        self.client_cpu_s = 0.0

    def run(self) -> float:
        """Copy the events of a round; return rows a second."""
        wall_s = 0.0
        with self.watch:
            for batch in in_batches(self._rows, self._batch):
                took_s, cpu_s = self._copy.write(batch)
                wall_s += took_s
                self.client_cpu_s += cpu_s
        return len(self._rows) / wall_s

    def forget(self) -> None:
        """Begin to measure here, after a warm-up."""
        self.watch.reset()
        self.client_cpu_s = 0.0

    def close(self) -> None:
        """Close the connection."""
        self._copy.close()


def compare_batches(http: OverHttp, limit: RawCopies, rounds: int, events: int) -> dict[str, Any]:
    """Run both in turn, after a round that does not count; return rates and their ratio.

    Args:
        http: The real path.
        limit: The COPY.
        rounds: That count.
        events: Of a round.
    """
    for side in (http, limit):
        side.run()
        side.forget()
    rates, limit_rates = interleave(rounds, http.run, limit.run)
    limit.close()
    us, http_us = 1e6 / (rounds * events), 1e6 / http.sent_since
    figures = {
        "of_a_raw_copy": median(rates) / median(limit_rates),
        "events_per_s": median(rates),
        "raw_copy_rows_per_s": median(limit_rates),
        "p50_ms": median([each.p50_ms for each in http.outcomes]),
        "p99_ms": median([each.p99_ms for each in http.outcomes]),
        "server_cpu_us": http.watch.cpu_s["server"] * http_us,
        "postgres_cpu_us": http.watch.cpu_s["postgres"] * http_us,
        "load_cpu_us": sum(each.cpu_s for each in http.outcomes) * http_us,
        "raw_copy_client_cpu_us": limit.client_cpu_s * us,
        "raw_copy_postgres_cpu_us": limit.watch.cpu_s["postgres"] * us,
    }
    return {name: round(figure, 3) for name, figure in figures.items()}
