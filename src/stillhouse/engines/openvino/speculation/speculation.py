"""
Chooses the number of draft tokens that a step verifies, to maximise throughput.

The choice follows from the recent acceptance rate of each sequence, and from the measured time of
steps of each size on this machine. Each sequence also keeps a balance in tokens, those that drafts
gave it less those that their time would have given, and drafts only while the balance is positive.
So the gain of drafts bounds their cost, even if the estimates are wrong: where no draft token is
accepted, a sequence loses a small amount at the start, and 2 % from then on, half of it by probes.

Source:
    Speculative decoding: arXiv 2211.17192. The choice by throughput: SmartSpec, arXiv 2406.14066.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stillhouse.engines.openvino.speculation.draft_record import (
    FIRST_RATES,
    PRICES,
    DraftRecord,
)
from stillhouse.engines.openvino.speculation.drafts import MIN_MATCH, Draft, find_draft

if TYPE_CHECKING:
    from stillhouse.engines.openvino.scheduling.sequence import Sequence
    from stillhouse.engines.openvino.scheduling.step_times import StepTimes

#: For each sequence that decodes in it; in a shorter one, to search costs more than 3 %.
SHORTEST_STEP_S = 0.002
MIN_GAIN = 1.05  # in tokens per second; less is lost again where odds are taken too high
MAX_DRAFT_ROWS = 128  # in a step: each row of logits is half a megabyte at Llama's vocabulary
LATER = 3
HIGHEST_RATE = 0.98
OWN_STEP = 0.2  # by which a sequence's own rate moves towards what came of a draft token
COMMON_STEP = 0.1  # by which that of all sequences does
MAX_CREDIT = 4.0
EARNED_PER_TOKEN = 0.01
DRAFT_TOKENS_PER_CREDIT = 2.0
MAX_PROBE_CREDIT = 2.0  # for draft tokens against all odds, to find out when odds have changed
SMALLEST_SPAN = 8  # of tokens over which the price of one is measured: kernels work in tiles


@dataclass(slots=True)
class _Candidate:
    """A sequence with a draft."""

    sequence_id: int
    draft: Draft
    record: DraftRecord
    num_chosen: int = 0

    def odds(self) -> list[float]:
        """Returns the probability that each draft token is accepted, with all before it."""
        first = min(HIGHEST_RATE, self.record.rates[_kind(self.draft)])
        later = min(HIGHEST_RATE, self.record.rates[LATER])
        return [first * later**place for place in range(len(self.draft.token_ids))]


class Speculation:
    """
    Chooses the drafts of every step, and learns from their acceptance.

    Args:
        step_times: Durations of steps by their tokens; the decoder records them.
        max_draft_tokens: Most draft tokens for one sequence in a step; 0 for none at all.

    """

    def __init__(self, step_times: StepTimes, *, max_draft_tokens: int) -> None:
        self._step_times = step_times
        self.max_draft_tokens = max_draft_tokens
        self._rates = list(FIRST_RATES)
        self._probe_credit = MAX_PROBE_CREDIT

    def new_record(self) -> DraftRecord:
        """Returns the record of a new sequence, which is expected to be like those before it."""
        return DraftRecord(self._rates)

    def draft(self, sequences: list[Sequence], *, num_tokens: int, most: int) -> dict[int, Draft]:
        """
        Returns the drafts to verify in the next step, by sequence id.

        Args:
            sequences: All sequences that decode in it, each with a record.
            num_tokens: Tokens of the step without drafts.
            most: Most tokens of all drafts together.

        """
        base_s = self._step_times.predict_s(num_tokens)
        if base_s is None or base_s < SHORTEST_STEP_S * len(sequences):
            return {}
        candidates = self._candidates(sequences)
        if not candidates:
            return {}
        most = min(most, MAX_DRAFT_ROWS)
        num_chosen = self._choose(candidates, len(sequences), num_tokens, most)
        price = self._price(len(sequences), num_tokens, max(1, num_chosen))
        self._probe(candidates, most - num_chosen, price)
        for candidate in candidates:
            candidate.record.price = price
        return {
            candidate.sequence_id: candidate.draft.cut(candidate.num_chosen)
            for candidate in candidates
            if candidate.num_chosen
        }

    def record(self, sequence: Sequence, draft: Draft, *, num_accepted: int) -> None:
        """
        Learns from a step of *sequence*.

        Args:
            draft: The draft; may be empty.
            num_accepted: Number of its first tokens that were accepted.

        """
        record = sequence.draft_record
        if record is None:
            return
        num_missed = len(draft.token_ids) - num_accepted
        gained = num_accepted - record.price * len(draft.token_ids)
        record.credit = min(MAX_CREDIT, record.credit + gained + EARNED_PER_TOKEN)
        self._probe_credit = min(MAX_PROBE_CREDIT, self._probe_credit + EARNED_PER_TOKEN)
        if not draft.token_ids:
            return
        # Draft tokens after the first miss were not tested.
        for place, came_true in enumerate([1.0] * num_accepted + [0.0] * min(1, num_missed)):
            kind = LATER if place else _kind(draft)
            record.rates[kind] += OWN_STEP * (came_true - record.rates[kind])
            self._rates[kind] += COMMON_STEP * (came_true - self._rates[kind])

    def _candidates(self, sequences: list[Sequence]) -> list[_Candidate]:
        found = []
        for sequence in sequences:
            record = sequence.draft_record
            if record is None:
                continue
            # The step samples one token more than it drafts.
            num_wanted = min(
                self.max_draft_tokens,
                int(DRAFT_TOKENS_PER_CREDIT * record.credit),
                sequence.num_tokens_left - 1,
            )
            if num_wanted < 1:
                continue
            draft = find_draft(sequence.token_ids, num_wanted)
            if draft.token_ids:
                found.append(_Candidate(sequence.sequence_id, draft, record))
        return found

    def _choose(
        self, candidates: list[_Candidate], num_sequences: int, num_tokens: int, most: int
    ) -> int:
        """Chooses the likeliest draft tokens, as many as raise the speed; returns how many."""
        likeliest = sorted(
            (
                (probability, place)
                for place, candidate in enumerate(candidates)
                for probability in candidate.odds()
            ),
            reverse=True,
        )[:most]
        expected = float(num_sequences)
        best_speed, num_chosen = MIN_GAIN * expected / self._predict_s(num_tokens), 0
        for count, (probability, _) in enumerate(likeliest, 1):
            expected += probability
            # Every size up to 8, then in steps of an eighth.
            if count < len(likeliest) and count % (1 + count // 8):
                continue
            speed = expected / self._expect_s(num_tokens, count)
            if speed > best_speed:
                best_speed, num_chosen = speed, count
        for _, place in likeliest[:num_chosen]:
            candidates[place].num_chosen += 1
        return num_chosen

    def _price(self, num_sequences: int, num_tokens: int, num_draft_tokens: int) -> float:
        """Returns what each draft token costs, in tokens that its time would have given."""
        longer = self._expect_s(num_tokens, num_draft_tokens) / self._predict_s(num_tokens) - 1
        return min(max(PRICES[0], longer * num_sequences / num_draft_tokens), PRICES[1])

    def _probe(self, candidates: list[_Candidate], most: int, price: float) -> None:
        """
        Tries draft tokens that do not seem to pay, so rarely that they cost next to nothing.

        They are saved up for one step: the first token more may make a step longer than the rest.
        """
        if self._probe_credit < MAX_PROBE_CREDIT:
            return
        for candidate in candidates[:most]:
            if not candidate.num_chosen and self._probe_credit >= price:
                candidate.num_chosen = 1
                self._probe_credit -= price

    def _expect_s(self, num_tokens: int, num_draft_tokens: int) -> float:
        """Returns the time of a step with draft tokens, at least their share of a larger one."""
        base_s = self._predict_s(num_tokens)
        per_token_s = (self._predict_s(num_tokens + SMALLEST_SPAN) - base_s) / SMALLEST_SPAN
        return max(
            self._predict_s(num_tokens + num_draft_tokens), base_s + per_token_s * num_draft_tokens
        )

    def _predict_s(self, num_tokens: int) -> float:
        predicted_s = self._step_times.predict_s(num_tokens)
        assert predicted_s is not None, "It was known a moment ago. This is a bug."
        return predicted_s


def _kind(draft: Draft) -> int:
    """Returns the index of the rate for *draft*; rates differ by the length of the match."""
    return min(draft.num_matched - MIN_MATCH, LATER - 1)
