from hypothesis import given
from hypothesis import strategies as st

from stillhouse.text.parsing.text_span import Span, Stretch, joined
from stillhouse.types.chat import Logprob, TokenLogprobs


def _stretch(pieces: list[str]) -> Stretch:
    stretches = []
    for index, piece in enumerate(pieces):
        token = TokenLogprobs(Logprob(index, piece.encode(), -1.0))
        stretches.append(Stretch(piece, (Span(0, len(piece), token),)))
    return joined(stretches)


@given(st.lists(st.text("abc", min_size=1, max_size=4), max_size=6), st.data())
def test_every_token_stays_with_its_characters(pieces, data):
    """Cut anywhere and joined again, each token still spans the characters that it wrote."""
    whole = _stretch(pieces)
    start, end = sorted(data.draw(st.integers(0, len(whole.text))) for _ in range(2))

    part = whole.cut(start, end)

    assert whole.text[start:end] == part.text
    owners = [[i for i, piece in enumerate(pieces) for _ in piece][start:end]]
    assert owners == [[t.logprobs.drawn.token_id for t in part.tokens for _ in range(*t[:2])]]
    assert whole.text == joined([whole.cut(0, start), part, whole.cut(end)]).text
