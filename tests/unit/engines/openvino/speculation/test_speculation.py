"""How many draft tokens are made, in texts and on machines that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from stillhouse.engines.base import GenerateRequest
from stillhouse.engines.openvino.scheduling.sequence import Sequence
from stillhouse.engines.openvino.scheduling.step_times import StepTimes
from stillhouse.engines.openvino.speculation.drafts import NO_DRAFT
from stillhouse.engines.openvino.speculation.speculation import MAX_DRAFT_ROWS, Speculation

#: What says which token comes next, given all before.
Author = Callable[[Sequence], int]


class Machine(StepTimes):
    """A machine whose steps take what a function says."""

    def __init__(self, step_s: Callable[[int], float]) -> None:
        super().__init__()
        self.step_s = step_s

    def predict_s(self, num_tokens: int) -> float:
        return self.step_s(num_tokens)


def wide(_num_tokens: int) -> float:
    """Steps that take the same however many tokens they compute."""
    return 1.0


def narrow(num_tokens: int) -> float:
    """Steps that take twice as long for twice as many tokens."""
    return float(num_tokens)


def affine(num_tokens: int) -> float:
    """Steps whose every token has its price, above what a step takes anyhow."""
    return 60 + 6.0 * num_tokens


def usual(num_tokens: int) -> float:
    """Steps as a model with a billion weights has them on two cores, in milliseconds."""
    return 75 + 6.0 * max(0, num_tokens - 4)


@dataclass
class Talk:
    """So many sequences that decode together."""

    speculation: Speculation
    sequences: list[Sequence]
    num_steps: int = 0
    time: float = 0.0
    num_tokens: int = 0
    num_rows: int = 0

    @classmethod
    def on(
        cls, step_s: Callable[[int], float], num_sequences: int = 1, prompt: list[int] | None = None
    ) -> Talk:
        speculation = Speculation(Machine(step_s), max_draft_tokens=8)
        talk = cls(speculation, [])
        for _ in range(num_sequences):
            talk.join(prompt or [0])
        return talk

    def join(self, prompt: list[int], max_tokens: int = 10**6) -> Sequence:
        sequence = Sequence(
            len(self.sequences),
            GenerateRequest("r", prompt, max_tokens),
            block_size=4,
            generator=None,
        )
        sequence.draft_record = self.speculation.new_record()
        self.sequences.append(sequence)
        return sequence

    def step(self, author: Author, most: int = 1000) -> None:
        num_sequences = len(self.sequences)
        drafts = self.speculation.draft(self.sequences, num_tokens=num_sequences, most=most)
        num_rows = sum(len(draft.token_ids) for draft in drafts.values())
        self.num_steps += 1
        self.num_rows += num_rows
        self.time += self.speculation._predict_s(num_sequences + num_rows)
        for sequence in self.sequences:
            draft = drafts.get(sequence.sequence_id)
            draft_ids = draft.token_ids if draft else ()
            num_accepted = 0
            for draft_id in (*draft_ids, None):
                token_id = author(sequence)
                sequence.append(token_id)
                self.num_tokens += 1
                if draft_id != token_id:
                    break
                num_accepted += 1
            self.speculation.record(sequence, draft or NO_DRAFT, num_accepted=num_accepted)

    def go_on(self, author: Author, num_tokens: int) -> Talk:
        """Say so much more, and forget what was counted before."""
        self.num_steps = self.num_tokens = self.num_rows = 0
        self.time = 0.0
        while self.num_tokens < num_tokens:
            self.step(author)
        return self


def noise(vocab_size: int) -> Author:
    """Return an author who repeats pairs of tokens all the time, and never goes on as before."""
    rng = np.random.default_rng(0)
    return lambda _: int(rng.integers(0, vocab_size))


def song(sequence: Sequence) -> int:
    """Say the same 30 tokens over and over."""
    return 100 + sequence.num_tokens % 30


def edited_song(sequence: Sequence) -> int:
    """Say the same, with every 20th token another."""
    is_edited = sequence.num_tokens % 20 == 0
    return 1000 + sequence.num_tokens if is_edited else song(sequence)


@pytest.mark.parametrize("vocab_size", [8, 30])
@pytest.mark.parametrize("num_sequences", [1, 8])
@pytest.mark.parametrize("step_s", [wide, usual, affine, narrow])
def test_where_nothing_repeats_next_to_nothing_is_drafted(step_s, num_sequences, vocab_size):
    """At most 3 % of the time is lost, and few rows however cheap they seem."""
    talk = Talk.on(step_s, num_sequences).go_on(noise(vocab_size), 1000 * num_sequences)
    num_right = talk.num_tokens - talk.num_steps * num_sequences
    assert talk.time < 1.03 * step_s(num_sequences) * talk.num_tokens / num_sequences
    assert talk.num_rows <= 0.1 * talk.num_tokens + 8 * num_sequences + 4 * num_right


@pytest.mark.parametrize("step_s", [wide, usual, affine, narrow])
def test_short_answers_without_repetition_lose_no_time_either(step_s):
    """What the first answers have taught, later ones need not pay for again."""
    talk = Talk.on(step_s)
    author = noise(30)
    for _ in range(100):
        talk.sequences.clear()
        talk.join([0, 1, 0])
        for _ in range(40):
            talk.step(author)
    assert talk.time < 1.03 * step_s(1) * talk.num_tokens


@pytest.mark.parametrize("author", [song, edited_song])
def test_where_all_repeats_a_step_gives_several_tokens(author):
    """A copy is made in less than a third of the steps, from its first hundred tokens on."""
    talk = Talk.on(usual).go_on(author, 60).go_on(author, 1000)
    assert talk.num_steps < talk.num_tokens / 3


def test_the_machine_decides_how_much_is_drafted():
    """On a machine that gains nothing from larger steps, the same text drafts nothing."""
    num_rows = {
        step_s: Talk.on(step_s).go_on(song, 60).go_on(song, 1000).num_rows
        for step_s in (wide, usual, narrow)
    }
    assert num_rows[wide] >= num_rows[usual] > 500
    assert num_rows[narrow] <= 30


def test_many_sequences_draft_less_than_one():
    """The rows that one sequence has almost for nothing, sixteen sequences have to pay for."""
    rng = np.random.default_rng(0)
    prompt = [*range(600)]

    def half(sequence: Sequence) -> int:
        is_edited = rng.random() < 0.5
        return sequence.num_tokens + 1000 * int(is_edited) - len(prompt)

    def drafts_per_token(num_sequences: int) -> float:
        talk = Talk.on(usual, num_sequences, prompt)
        talk.go_on(half, 100 * num_sequences).go_on(half, 400 * num_sequences)
        return talk.num_rows / talk.num_tokens

    assert drafts_per_token(16) < drafts_per_token(1) / 2


@pytest.mark.parametrize("num_sequences", [1, 16])
def test_it_is_noticed_when_fortune_changes(num_sequences):
    """After a thousand tokens without luck, a text that repeats is drafted within 150."""
    prompt = [*range(100, 130)]
    talk = Talk.on(usual, num_sequences, prompt)
    talk.go_on(noise(30), 1000 * num_sequences)
    talk.go_on(song, 150 * num_sequences).go_on(song, 300 * num_sequences)
    assert talk.num_steps * num_sequences < talk.num_tokens / 2


def test_the_end_of_luck_costs_little():
    """When a copy ends, a few steps of draft tokens fail and no more."""
    talk = Talk.on(usual).go_on(song, 500)
    talk.go_on(noise(30), 200)
    assert talk.num_rows < 60


def test_draft_tokens_keep_to_what_there_is_room_for():
    """Neither the step nor the answer becomes longer than it may."""
    talk = Talk.on(wide, 20).go_on(song, 4000)
    drafts = talk.speculation.draft(talk.sequences, num_tokens=20, most=7)
    assert 7 == sum(len(draft.token_ids) for draft in drafts.values())
    drafts = talk.speculation.draft(talk.sequences, num_tokens=20, most=10_000)
    assert MAX_DRAFT_ROWS == sum(len(draft.token_ids) for draft in drafts.values())
    ending = talk.join([100, 101, 102] * 10, max_tokens=3)
    drafts = talk.speculation.draft([ending], num_tokens=1, most=10_000)
    assert 2 == len(drafts[ending.sequence_id].token_ids)
    ending.append(100)
    ending.append(101)
    assert {} == talk.speculation.draft([ending], num_tokens=1, most=10_000)


def test_the_surest_draft_tokens_come_first():
    """Where there is room for some only, they are those of the sequence that has had luck."""
    talk = Talk.on(wide)
    talk.join([0])
    lucky, unlucky = talk.sequences
    rng = np.random.default_rng(0)
    for _ in range(100):
        talk.step(lambda s: song(s) if s is lucky else int(rng.integers(0, 30)))
    for sequence in talk.sequences:
        for token_id in (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5):
            sequence.append(token_id)
    assert unlucky.draft_record is not None
    unlucky.draft_record.credit = 8
    drafts = talk.speculation.draft(talk.sequences, num_tokens=2, most=3)
    assert {lucky.sequence_id: (6, 7, 8)} == {key: d.token_ids for key, d in drafts.items()}


def test_nothing_is_drafted_before_the_first_step_is_timed():
    """Who knows nothing of the machine takes no chances."""
    speculation = Speculation(StepTimes(), max_draft_tokens=8)
    talk = Talk(speculation, [])
    talk.join([1, 2, 3] * 5)
    assert {} == speculation.draft(talk.sequences, num_tokens=1, most=100)
    speculation._step_times.observe(1, 0.1)
    speculation._step_times.observe(100, 0.1)
    assert [0] == [*speculation.draft(talk.sequences, num_tokens=1, most=100)]


def test_it_can_be_switched_off():
    """With no draft tokens allowed there are none, in whatever text."""
    speculation = Speculation(Machine(wide), max_draft_tokens=0)
    talk = Talk(speculation, [])
    talk.join([1, 2, 3] * 5)
    talk.go_on(song, 500)
    assert (0, 500) == (talk.num_rows, talk.num_steps)


@pytest.mark.parametrize(("step_s", "is_drafted"), [(0.0039, False), (0.0041, True)])
def test_nothing_is_drafted_where_steps_are_shorter_than_the_search(step_s, is_drafted):
    """A model so small that two sequences take less than 4 ms loses no time with draft tokens."""
    talk = Talk.on(lambda _: step_s, 2, [1, 2, 3] * 5)
    assert is_drafted == bool(talk.speculation.draft(talk.sequences, num_tokens=2, most=100))
