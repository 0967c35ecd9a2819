"""Sums of two or three numbers below one hundred, worked out column by column."""

import random

from tools.demo_model.world import pair_is_held_out

LIMIT = 100

ASK_TWO = (
    "What is {0} + {1}?",
    "{0} + {1}",
    "{0}+{1}",
    "{0} + {1} =",
    "{0}+{1}=?",
    "Add {0} and {1}.",
    "What is the sum of {0} and {1}?",
    "How much is {0} + {1}?",
    "Calculate {0} + {1}.",
    "What is {0} plus {1}?",
    "What's {0} + {1}?",
    "Can you add {0} and {1}?",
    "{0} plus {1}",
    "Compute {0} + {1}",
    "Please add {0} and {1} for me.",
    "How much is {0} and {1} together?",
    "Solve {0} + {1}.",
    "What does {0} + {1} equal?",
    "I have {0} and {1}. What is the sum?",
)
ASK_THREE = (
    "What is {0} + {1} + {2}?",
    "{0} + {1} + {2}",
    "{0}+{1}+{2}",
    "{0} + {1} + {2} =",
    "Add {0}, {1} and {2}.",
    "What is the sum of {0}, {1} and {2}?",
    "How much is {0}+{1}+{2}?",
    "Calculate {0} + {1} + {2}.",
    "What is {0} plus {1} plus {2}?",
    "What's {0} + {1} + {2}?",
    "Can you add {0}, {1} and {2}?",
    "{0} plus {1} plus {2}",
    "Compute {0} + {1} + {2}",
    "Please add {0}, {1} and {2} for me.",
    "Solve {0} + {1} + {2}.",
    "{0}+{1}+{2}=?",
    "What does {0} + {1} + {2} equal?",
    "I have {0}, {1} and {2}. What is the sum?",
)


def draw(rng: random.Random, count: int, *, held_out: bool) -> tuple[int, ...]:
    """Numbers whose first pair is held out, or is not, as asked."""
    while True:
        numbers = tuple(rng.randrange(LIMIT) for _ in range(count))
        if pair_is_held_out(numbers[0], numbers[1]) == held_out:
            return numbers


def ask(rng: random.Random, numbers: tuple[int, ...]) -> str:
    """One of many ways to ask for this sum."""
    return rng.choice(ASK_TWO if len(numbers) == 2 else ASK_THREE).format(*numbers)


def _column(digits: list[int], carry: int | None) -> tuple[str, int]:
    """A running total such as `7+8=15+2=17`, and where it ends."""
    total = digits[0] if carry is None else carry
    text = f"{total}"
    for digit in digits[1:] if carry is None else digits:
        total += digit
        text += f"+{digit}={total:02d}"
    return text, total


def work(numbers: tuple[int, ...]) -> str:
    """The thought: the numbers as two digits each, the ones, the tens, the result."""
    padded = "+".join(f"{number:02d}" for number in numbers)
    ones, low = _column([number % 10 for number in numbers], None)
    tens, high = _column([number // 10 for number in numbers], low // 10)
    return (
        f"Add {padded}. Ones {ones}. Tens {tens}. Join {high:02d} and {low % 10}: {sum(numbers)}."
    )


def answer(numbers: tuple[int, ...]) -> str:
    """The equation in full."""
    return f"{' + '.join(map(str, numbers))} = {sum(numbers)}."
