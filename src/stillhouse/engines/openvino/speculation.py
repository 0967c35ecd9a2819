"""
How many guessed tokens a step verifies: as many as pay.

What pays follows from how often guesses for a sequence came true lately, and from how long steps of
so many tokens take on this machine: a guess that comes true saves a share of a step, any other
costs its row. What guesses may cost where they never come true is bounded whatever the estimates
say: they are paid from a credit, which guesses that come true refill, and time only drop by drop.

Source:
    Speculative decoding: arXiv 2211.17192. The choice by throughput: SmartSpec, arXiv 2406.14066.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stillhouse.engines.openvino.drafts import MIN_MATCH, Draft, find_draft

if TYPE_CHECKING:
    from stillhouse.engines.openvino.sequence import Sequence
    from stillhouse.engines.openvino.step_times import StepTimes

MAX_DRAFT_ROWS = 128  # in a step: each row of logits is half a megabyte at Llama's vocabulary
FIRST_RATES = (0.3, 0.5, 0.7)  # of guesses that come true where 2, 3, or more tokens matched
HIGHEST_RATE = 0.98
OWN_STEP = 0.2  # by which a sequence's own rate moves towards what came of a guess
COMMON_STEP = 0.05  # by which that of all sequences does
FIRST_CREDIT = 4.0  # guesses that a new sequence can afford
MAX_CREDIT = 16.0
EARNED_PER_HIT = 4.0
EARNED_PER_TOKEN = 0.02
MAX_PROBE_CREDIT = 4.0  # guesses against all odds, to find out when odds have changed


class DraftRecord:
    """
    How guesses for one sequence have done.

    Attributes:
        rates: The share that came true lately, by kind of match.
        credit: So many guesses may fail now.

    """

    __slots__ = ("credit", "rates")

    def __init__(self, rates: list[float]) -> None:
        self.rates = list(rates)
        self.credit = FIRST_CREDIT


@dataclass(slots=True)
class _Candidate:
    """A sequence with something to guess."""

    sequence_id: int
    draft: Draft
    rate: float
    num_chosen: int = 0


class Speculation:
    """
    Chooses the drafts of every step, and learns what became of them.

    Args:
        step_times: What steps take, by their tokens; observed by whoever runs them.
        max_draft_tokens: Most guesses for one sequence in a step; 0 for none at all.

    """

    def __init__(self, step_times: StepTimes, *, max_draft_tokens: int) -> None:
        self._step_times = step_times
        self.max_draft_tokens = max_draft_tokens
        self._rates = list(FIRST_RATES)
        self._probe_credit = MAX_PROBE_CREDIT

    def new_record(self) -> DraftRecord:
        """Return the record of a new sequence, which is expected to be like those before it."""
        return DraftRecord(self._rates)

    def draft(self, sequences: list[Sequence], *, num_tokens: int, most: int) -> dict[int, Draft]:
        """
        Return the drafts that are worth to be verified in the next step, by sequence id.

        Args:
            sequences: All that decode in it, each with a record.
            num_tokens: What the step computes without drafts.
            most: Most tokens of all drafts together.

        """
        candidates = self._candidates(sequences)
        if not candidates or self._step_times.predict_s(num_tokens) is None:
            return {}
        most = min(most, MAX_DRAFT_ROWS)
        most -= self._choose(candidates, len(sequences), num_tokens, most)
        self._probe(candidates, most)
        return {
            candidate.sequence_id: candidate.draft.cut(candidate.num_chosen)
            for candidate in candidates
            if candidate.num_chosen
        }

    def saw(self, sequence: Sequence, draft: Draft, *, num_accepted: int) -> None:
        """
        Learn from a step of *sequence*.

        Args:
            draft: What was guessed; may be empty.
            num_accepted: How many of its tokens came true, the first ones.

        """
        record = sequence.draft_record
        if record is None:
            return
        num_missed = len(draft.token_ids) - num_accepted
        earned = EARNED_PER_TOKEN * (1 + num_accepted) + EARNED_PER_HIT * num_accepted
        record.credit = min(MAX_CREDIT, record.credit + earned - num_missed)
        self._probe_credit = min(MAX_PROBE_CREDIT, self._probe_credit + EARNED_PER_TOKEN)
        if not draft.token_ids:
            return
        kind = _kind(draft)
        # What follows the first miss was never put to the test.
        for came_true in [1.0] * num_accepted + [0.0] * min(1, num_missed):
            record.rates[kind] += OWN_STEP * (came_true - record.rates[kind])
            self._rates[kind] += COMMON_STEP * (came_true - self._rates[kind])

    def _candidates(self, sequences: list[Sequence]) -> list[_Candidate]:
        found = []
        for sequence in sequences:
            record = sequence.draft_record
            if record is None:
                continue
            # The step draws one token more than it guesses.
            num_wanted = min(
                self.max_draft_tokens, int(record.credit), sequence.num_tokens_left - 1
            )
            if num_wanted < 1:
                continue
            draft = find_draft(sequence.token_ids, num_wanted)
            if draft.token_ids:
                rate = min(HIGHEST_RATE, record.rates[_kind(draft)])
                found.append(_Candidate(sequence.sequence_id, draft, rate))
        return found

    def _choose(
        self, candidates: list[_Candidate], num_sequences: int, num_tokens: int, most: int
    ) -> int:
        """Choose the likeliest guesses, as many as make the most of a second; return how many."""
        guesses = sorted(
            (
                (candidate.rate**depth, place)
                for place, candidate in enumerate(candidates)
                for depth in range(1, len(candidate.draft.token_ids) + 1)
            ),
            reverse=True,
        )[:most]
        expected = float(num_sequences)
        best_speed, num_chosen = expected / self._predict_s(num_tokens), 0
        for count, (probability, _) in enumerate(guesses, 1):
            expected += probability
            # Every size up to 8, then in steps of an eighth.
            if count < len(guesses) and count % (1 + count // 8):
                continue
            speed = expected / self._predict_s(num_tokens + count)
            if speed > best_speed:
                best_speed, num_chosen = speed, count
        for _, place in guesses[:num_chosen]:
            candidates[place].num_chosen += 1
        return num_chosen

    def _probe(self, candidates: list[_Candidate], most: int) -> None:
        """Try a guess that does not seem to pay, so rarely that it costs next to nothing."""
        for candidate in candidates[:most]:
            if self._probe_credit < 1:
                return
            if not candidate.num_chosen:
                candidate.num_chosen = 1
                self._probe_credit -= 1

    def _predict_s(self, num_tokens: int) -> float:
        predicted_s = self._step_times.predict_s(num_tokens)
        assert predicted_s is not None, "It was known a moment ago. This is a bug."
        return predicted_s


def _kind(draft: Draft) -> int:
    """Return which rate speaks of *draft*: the longer the match, the surer the guess."""
    return min(draft.num_matched - MIN_MATCH, len(FIRST_RATES) - 1)
