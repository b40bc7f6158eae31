"""When a candidate is given up: a paired sequential test.

A candidate's loss in a sample is the default's score less its own; without true answers, 1 where
the answer is another. The samples are asked in an order drawn by lot, so that a loss is drawn
without replacement from those of all samples, whose mean is the drop that counts in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vpt_edge.tuning.reply import Reply

# How often, at most, a candidate is given up that would have held on all samples.
ALPHA = 0.01
BETS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # shares of what the test may stake on a loss
ROUNDING = 1e-9


class LossTest:
    """Tells whether the mean of ``count`` losses, drawn without replacement, is above ``allowed``.

    A betting test: with S the sum of the n losses x that were drawn, the mean of the others is, if
    it holds, at most m = (count * allowed - S) / (count - n). The capital
    K = mean over bets b of the product of 1 + b * (x - m) / (m - least) is then a supermartingale
    that begins at 1, and by Ville's inequality exceeds 1 / alpha at any time with a probability of
    at most alpha. (I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by
    betting", JRSS B 86, 2024, section 5: without replacement.)

    ``least``: no loss is below it.
    """

    def __init__(
        self, count: int, allowed: float, least: float = -1.0, alpha: float = ALPHA
    ) -> None:
        self._left = count
        self._budget = count * allowed
        self._least = least
        self._alpha = alpha
        self._capitals = [1.0] * len(BETS)
        self.rejected = False

    def observe(self, loss: float) -> None:
        """The next loss; ``rejected`` stays once it is true."""
        mean = self._budget / self._left
        self._left -= 1
        self._budget -= loss
        reach = mean - self._least
        if reach <= ROUNDING:  # all the others would have to be the least
            self.rejected = self.rejected or loss - mean > ROUNDING
            return
        for index, bet in enumerate(BETS):
            self._capitals[index] *= max(0.0, 1 + bet * (loss - mean) / reach)
        capital = sum(self._capitals) / len(BETS)
        self.rejected = self.rejected or capital >= 1 / self._alpha


class Judge:
    """Watches a candidate's replies beside the ``default`` ones to the same samples.

    ``max_drop``: in points. ``must_be_faster``: whether a candidate is given up as well that is
    slower, in the same test on the share of the samples in which it takes longer: 1/2 is allowed.
    """

    def __init__(
        self, default: Sequence[Reply], max_drop: float, must_be_faster: bool = False
    ) -> None:
        self._default = default
        scores = [reply.outcome.score for reply in default]
        self._has_scores = any(score is not None for score in scores)
        self._allowed = max_drop / 100
        self._best = {index: self._least_loss(index) for index in range(len(default))}
        losses = [least for least in self._best.values() if least is not None]
        self._count = len(losses)
        self._least_sum = sum(losses)  # of what is known, and the least of what is not
        self._losses = LossTest(self._count, self._allowed, min(losses))
        self._slower: LossTest | None = None
        if must_be_faster:
            self._slower = LossTest(len(default), 0.5, 0.0)

    def observe(self, index: int, reply: Reply) -> str:
        """The reply to the sample ``index``; returns why the candidate is to be given up, or ""."""
        least = self._best[index]
        if least is not None:
            loss = loss_of(reply, self._default[index], self._has_scores)
            self._least_sum += loss - least
            self._losses.observe(loss)
        if self._least_sum > self._count * self._allowed + ROUNDING:
            return "the drop is too large even with all other answers right"
        if self._losses.rejected:
            return f"the drop is too large, at a confidence of {1 - ALPHA:.0%}"
        if self._slower is not None and self._is_slower(self._slower, index, reply):
            return f"slower than the default, at a confidence of {1 - ALPHA:.0%}"
        return ""

    def _is_slower(self, test: LossTest, index: int, reply: Reply) -> bool:
        seconds = reply.whole
        usual = self._default[index].whole
        is_longer = seconds is not None and usual is not None and seconds > usual
        test.observe(float(is_longer))
        return test.rejected

    def _least_loss(self, index: int) -> float | None:
        """Of a sample: where the answer is right; None for what does not count."""
        score = self._default[index].outcome.score
        if not self._has_scores:
            return 0.0
        return None if score is None else score - 1


def mean_loss(pairs: Sequence[tuple[Reply, Reply]]) -> float:
    """Of replies, each with the default's to the same sample, over those that count: the drop."""
    has_scores = any(default.outcome.score is not None for _, default in pairs)
    losses = list[float]()
    for reply, default in pairs:
        if not has_scores or default.outcome.score is not None:
            losses.append(loss_of(reply, default, has_scores))
    return sum(losses) / len(losses)


def loss_of(reply: Reply, default: Reply, has_scores: bool) -> float:
    """The default's score less this one, or 1 where the answer is another."""
    if not has_scores:
        return float(reply.outcome.text != default.outcome.text)
    score = reply.outcome.score
    usual = default.outcome.score
    assert score is not None and usual is not None
    return usual - score
