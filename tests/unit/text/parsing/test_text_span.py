from hypothesis import given
from hypothesis import strategies as st

from stillhouse.text.parsing.text_span import TextSpan, TokenSpan, joined
from stillhouse.types.logprobs import Logprob, TokenLogprobs


def _span(pieces: list[str]) -> TextSpan:
    spans = []
    for index, piece in enumerate(pieces):
        token = TokenLogprobs(Logprob(index, piece.encode(), -1.0))
        spans.append(TextSpan(piece, (TokenSpan(0, len(piece), token),)))
    return joined(spans)


@given(st.lists(st.text("abc", min_size=1, max_size=4), max_size=6), st.data())
def test_every_token_stays_with_its_characters(pieces, data):
    """Cut anywhere and joined again, each token still spans the characters that it wrote."""
    whole = _span(pieces)
    start, end = sorted(data.draw(st.integers(0, len(whole.text))) for _ in range(2))

    part = whole.cut(start, end)

    assert whole.text[start:end] == part.text
    owners = [[i for i, piece in enumerate(pieces) for _ in piece][start:end]]
    assert owners == [[t.logprobs.sampled.token_id for t in part.tokens for _ in range(*t[:2])]]
    assert whole.text == joined([whole.cut(0, start), part, whole.cut(end)]).text
