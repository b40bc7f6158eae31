"""The trials: the default first, one axis at a time, then what held on several axes together."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from vpt_edge.calibration.evaluation import ask, compare, describe_answer, describe_failure
from vpt_edge.calibration.metrics import METRICS
from vpt_edge.calibration.samples import too_many
from vpt_edge.runtime import host
from vpt_edge.runtime.errors import ImageError, PromptError, VptError
from vpt_edge.runtime.pipeline import Pipeline
from vpt_edge.tuning import space
from vpt_edge.tuning.candidate import DEFAULT, Candidate
from vpt_edge.tuning.decision import ROUNDING, Judge, mean_loss
from vpt_edge.tuning.journal import hash_samples, hash_trial
from vpt_edge.tuning.reply import Reply
from vpt_edge.tuning.threads import HAS_AFFINITY, limit_threads
from vpt_edge.tuning.untuned import fingerprint

if TYPE_CHECKING:
    from vpt_edge.calibration.evaluation import Agreement
    from vpt_edge.calibration.sample import Sample
    from vpt_edge.runtime.bundle import Bundle
    from vpt_edge.tuning.journal import Journal

TIMED = 24  # samples on which those that held are timed at the end
Progress: TypeAlias = Callable[[str, float, str], object]
Opener: TypeAlias = "Callable[[Bundle, str], Pipeline]"


@dataclass(frozen=True)
class Task:
    """What is to be tuned. The first of the ``bundles`` is the default, ``names`` theirs.

    ``metric``: a key of ``METRICS``; ``max_drop``: in points, or without true answers in percent of
    answers that differ.
    """

    bundles: tuple[Bundle, ...]
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    metric: str = "exact"
    max_drop: float = 0.5
    device: str = "cpu"
    max_new_tokens: int = 1024


@dataclass(frozen=True)
class Trial:
    """A candidate's replies by the samples' indices; ``stopped``: why there are no more."""

    candidate: Candidate
    replies: Mapping[int, Reply]
    stopped: str = ""

    def compare(self, default: Trial) -> Agreement | None:
        """How far the replies agree with the default's; None where there are none."""
        if not self.replies:
            return None
        outcomes = [reply.outcome for reply in self.replies.values()]
        others = [default.replies[index].outcome for index in self.replies]
        return compare(outcomes, others)

    def holds(self, default: Trial, max_drop: float) -> bool:
        """Whether all samples were asked, and the drop is allowed."""
        if self.stopped:
            return False
        pairs = [(reply, default.replies[index]) for index, reply in self.replies.items()]
        return mean_loss(pairs) <= max_drop / 100 + ROUNDING


class Search:
    """Tries candidates on the samples, in an order drawn by lot, and keeps every reply."""

    def __init__(
        self,
        task: Task,
        journal: Journal,
        progress: Progress = lambda stage, done, detail: None,
        opener: Opener = Pipeline,
    ) -> None:
        self._task = task
        self._journal = journal
        self._progress = progress
        self._opener = opener
        self._pipeline: Pipeline | None = None
        self._place: tuple[int, int | None] | None = None
        self.data = hash_samples(task.samples)
        self._prints = [fingerprint(bundle.manifest) for bundle in task.bundles]
        self._order = list(range(len(task.samples)))
        random.Random(self.data).shuffle(self._order)

    def run(self) -> list[Trial]:
        """All trials, the default's first.

        Raises VptError when 5 % of the samples or more cannot be asked, and what the pipeline
        raises beyond that.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._close)
            default = self._try(DEFAULT, lambda index, reply: "", "the default", (0, 1))
            _check_failures(default, self._task.samples)
            trials = [default]
            trials += self._run_round("one by one", self._singles(default), default, 0.0)
            held = [trial for trial in trials if trial.holds(default, self._task.max_drop)]
            together = space.combine([trial.candidate for trial in held])
            trials += self._run_round("together", together, default, self._task.max_drop)
        return trials

    def time(self, candidates: Sequence[Candidate]) -> dict[Candidate, list[Reply]]:
        """Replies of the ``candidates`` to the first samples, asked in turn: a machine that has
        slowed down since the first trial slows them all.
        """
        replies: dict[Candidate, list[Reply]] = {candidate: [] for candidate in candidates}
        places = {candidate.place: None for candidate in candidates}
        total = len(candidates) * min(TIMED, len(self._order))
        done = 0
        with contextlib.ExitStack() as stack:
            stack.callback(self._close)
            for place in places:
                group = [candidate for candidate in candidates if candidate.place == place]
                self._ask(group[0], self._order[0])  # the first answer of a session takes longer
                for index in self._order[:TIMED]:
                    for candidate in group:
                        replies[candidate].append(self._ask(candidate, index))
                        done += 1
                        name = candidate.describe(list(self._task.names))
                        self._progress("seconds", done / total, name)
        return replies

    def _singles(self, default: Trial) -> list[Candidate]:
        """The first round: each axis alone, the cheapest first."""
        manifest = self._task.bundles[0].manifest
        sizes = []
        for index in self._order[: space.MEASURED]:
            sizes += [picture.size for picture in self._task.samples[index].open_all()]
        looked = list[int]()
        for reply in default.replies.values():
            looked += reply.looked_tokens
        tokens = space.count_first_tokens(manifest, sizes)
        candidates = space.first_candidates(manifest, tokens)
        candidates += space.look_candidates(manifest, looked)
        candidates += space.token_candidates(tokens)
        candidates.sort(key=lambda candidate: candidate.cost)
        if self._task.device == "cpu" and HAS_AFFINITY:
            candidates += space.thread_candidates(host.usable_cores())
        return candidates + space.bundle_candidates([_bytes(each) for each in self._task.bundles])

    def _run_round(
        self, stage: str, candidates: Sequence[Candidate], default: Trial, skipping: float
    ) -> list[Trial]:
        """The trials of ``candidates``, but for those that are no cheaper than one that held at a
        drop of ``skipping``.
        """
        trials = list[Trial]()
        for number, candidate in enumerate(candidates):
            cheaper = [trial for trial in trials if trial.holds(default, skipping)]
            reason = self._reason_to_skip(candidate, cheaper)
            if reason:
                trials.append(Trial(candidate, {}, reason))
                continue
            judge = self._judge(candidate, default)
            trials.append(self._try(candidate, judge.observe, stage, (number, len(candidates))))
        return trials

    def _judge(self, candidate: Candidate, default: Trial) -> Judge:
        replies = [default.replies[index] for index in range(len(default.replies))]
        only_threads = candidate.setting == DEFAULT.setting and candidate.bundle == DEFAULT.bundle
        return Judge(replies, self._task.max_drop, must_be_faster=only_threads)

    def _reason_to_skip(self, candidate: Candidate, held: Iterable[Trial]) -> str:
        for trial in held:
            if space.is_no_cheaper(candidate, trial.candidate):
                name = trial.candidate.describe(list(self._task.names))
                return f"not tried: {name} is cheaper and held"
        return ""

    def _try(
        self,
        candidate: Candidate,
        observe: Callable[[int, Reply], str],
        stage: str,
        place: tuple[int, int],
    ) -> Trial:
        """Ask the samples until ``observe`` says why not to go on.

        ``place``: the candidate's number in its round, and how many there are.
        """
        number, of = place
        count = len(self._order)
        name = candidate.describe(list(self._task.names))
        key = self._key(candidate)
        known = self._journal.read(key)
        replies: dict[int, Reply] = {}
        for index in self._order:
            reply = known.get(index)
            if reply is None:
                reply = self._ask(candidate, index)
                self._journal.write(key, index, reply)
            reply = reply.score(self._task.samples[index], METRICS[self._task.metric])
            replies[index] = reply
            share = (number + len(replies) / count) / of
            self._progress(stage, share, f"{name}: {len(replies)} of {count}")
            reason = observe(index, reply)
            if reason:
                return Trial(candidate, replies, reason)
        return Trial(candidate, replies)

    def _key(self, candidate: Candidate) -> str:
        parts: dict[str, Any] = {
            "bundle": self._prints[candidate.bundle],
            "data": self.data,
            "setting": candidate.setting.options(),
            "threads": candidate.threads,
            "cores": host.usable_cores(),
            "device": self._task.device,
            "max_new_tokens": self._task.max_new_tokens,
        }
        return hash_trial(parts)

    def _ask(self, candidate: Candidate, index: int) -> Reply:
        sample = self._task.samples[index]
        metric = METRICS[self._task.metric]
        pipeline = self._open(candidate)
        options: Any = candidate.setting.options()
        options["max_new_tokens"] = self._task.max_new_tokens
        try:
            pictures = sample.open_all()
            start = time.perf_counter()
            answer = ask(pipeline, sample, pictures, **options)
        except (ImageError, PromptError) as error:
            return Reply(describe_failure(sample, error))
        whole = time.perf_counter() - start
        outcome = describe_answer(answer, sample, metric)
        return Reply(outcome, answer.usage.first_token_seconds[0], whole)

    def _open(self, candidate: Candidate) -> Pipeline:
        """The pipeline of a candidate's place: one is open at a time."""
        if self._pipeline is None or self._place != candidate.place:
            self._close()
            with limit_threads(candidate.threads):
                bundle = self._task.bundles[candidate.bundle]
                self._pipeline = self._opener(bundle, self._task.device)
            self._place = candidate.place
        return self._pipeline

    def _close(self) -> None:
        if self._pipeline is not None:
            self._pipeline.close()
        self._pipeline = None


def _bytes(bundle: Bundle) -> int:
    return sum(bundle.file(name).stat().st_size for name in bundle.manifest.files) or 1


def _check_failures(default: Trial, samples: Sequence[Sample]) -> None:
    outcomes = {index: reply.outcome for index, reply in default.replies.items()}
    failed = [index for index, outcome in outcomes.items() if outcome.finish_reason == "failed"]
    if too_many(len(failed), len(samples)):
        last = failed[-1]
        raise VptError(
            f"{len(failed)} of {len(samples)} samples cannot be asked, expected less than 5 %; the "
            f"last is {samples[last].image}: {outcomes[last].error}"
        )
