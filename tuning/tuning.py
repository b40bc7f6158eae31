"""A whole tuning: the trials, their memory, the rows and the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vpt_edge.tuning.journal import Journal
from vpt_edge.tuning.memory import ASKED, measure_memory
from vpt_edge.tuning.proof import prove, write_budget
from vpt_edge.tuning.search import Search
from vpt_edge.tuning.table import choose, describe_trials
from vpt_edge.tuning.threads import name_cores

if TYPE_CHECKING:
    from pathlib import Path

    from vpt_edge.calibration.sample import Sample
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.tuning.candidate import Candidate
    from vpt_edge.tuning.search import Progress, Task
    from vpt_edge.tuning.table import Row


@dataclass(frozen=True)
class Tuning:
    """What was found: the ``rows``, the default's first, and the ``chosen`` one of them.

    ``data``: the sha256 of the samples.
    """

    task: Task
    data: str
    rows: Sequence[Row]
    chosen: Row

    @property
    def bundle(self) -> Bundle:
        """The one that was chosen, as it was exported."""
        return self.task.bundles[self.chosen.candidate.bundle]

    @property
    def cores(self) -> str:
        """The cores on which the choice ran, as ``taskset -c`` takes them; "" for all."""
        threads = self.chosen.candidate.threads
        return "" if threads is None else name_cores(threads)

    @property
    def is_worth_writing(self) -> bool:
        """Whether the choice has a setting of its own: a bundle or its threads alone have none."""
        return bool(self.chosen.candidate.setting.options())

    def write(self) -> None:
        """Put the choice into its bundle; see ``proof.write_budget``."""
        tuned = prove(self.chosen, self.rows[0], self.task, self.data)
        setting = self.chosen.candidate.setting
        write_budget(self.bundle.path, self.bundle.manifest, setting, tuned)


def tune(
    task: Task, journal: Path, progress: Progress = lambda stage, done, detail: None
) -> Tuning:
    """Try what there is to try. Replies wait in the file ``journal`` for the next run.

    ``progress`` is told the stage, its share that is done, and what is tried. Raises VptError for
    what cannot be opened, asked or written.
    """
    with Journal(journal).open() as opened:
        search = Search(task, opened, progress)
        trials = search.run()
        held = [trial.candidate for trial in trials if trial.holds(trials[0], task.max_drop)]
        timed = search.time(held)
    memories = _measure_memories(task, held, progress)
    rows = describe_trials(trials, task.names, task.max_drop, timed, memories)
    return Tuning(task, search.data, rows, choose(rows))


def _measure_memories(
    task: Task, held: Sequence[Candidate], progress: Progress
) -> dict[Candidate, int | None]:
    """Of what held, the default among it, with the largest pictures."""
    samples = sorted(task.samples, key=_pixels, reverse=True)[:ASKED]
    memories: dict[Candidate, int | None] = {}
    for number, candidate in enumerate(held):
        progress("memory", number / len(held), candidate.describe(list(task.names)))
        path = task.bundles[candidate.bundle].path
        memories[candidate] = measure_memory(
            path, candidate, samples, task.device, task.max_new_tokens
        )
    return memories


def _pixels(sample: Sample) -> int:
    return sum(picture.width * picture.height for picture in sample.open_all())
