import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import InvalidRequestError
from stillhouse.text.grammar.schemas.regex_bounds import MAX_WRITTEN_OUT, check_regex


def check(regex: str) -> None:
    check_regex(regex, where="The pattern", max_length=100, param="response_format")


@pytest.mark.parametrize(
    "regex",
    [
        "",
        "a{1000}",
        "a{1,1000}b{3,}",
        r"\{1001\}",
        "[a{1001}]",
        "[]{1001}]",
        "[^]{1001}]",
        "[a[b]{1001}]",
        r"[\]{1001}]",
        r"\\(?:a|b)(?P<name>c)(?<other>d)",
        r"\(?=",
        "[(?=a)]",
        "a" * 100,
        "(a{100}){100}",
        "(((a{21}){21}){21}){1}",
        r"((\x{2014}|\p{Greek}){50}){100}",
        r"(\(a{1000}\)){9}",
        "([a{1000}]{100}){100}",
        "(?:a{1000}|b{1000}){5}",
        "(?P<a_long_name>a{100}){100}",
        "((a{1000})*){10}",
        "())){5}",
    ],
)
def test_what_is_within_bounds_passes(regex):
    """Literal braces, brackets and parentheses are no operators."""
    check(regex)


@pytest.mark.parametrize(
    ("regex", "fault"),
    [
        ("a" * 101, "has 101 characters; right would be at most 100"),
        ("a{1001}", "repeats something 1001 times; right would be at most 1000"),
        ("a{2,1001}", "repeats something 1001 times"),
        ("a{1001,}", "repeats something 1001 times"),
        ("[a]{1001}", "repeats something 1001 times"),
        ("[]a]{1001}", "repeats something 1001 times"),
        (r"\\{1001}", "repeats something 1001 times"),
        ("(a{100}){101}", "more than 10000 characters when its repetitions, .* are written out"),
        ("((((a{1000}){1000}){1000}){1000})", "more than 10000 characters"),
        ("a{101}{100}", "more than 10000 characters"),
        ("(?:b|(?i:a{101})){100}", "more than 10000 characters"),
        ("((a{1000}){10}b)", "more than 10000 characters"),
        ("(a{1,100}b{2,}){101}", "more than 10000 characters"),
        ("(?x)(a{101}) # comment\n {100}", "more than 10000 characters"),
        ("(" * 7 + "a" + "{9})" * 7, "more than 10000 characters"),
        ("(?=a)b", r"looks around \('\(\?=a'\)"),
        ("a(?!b)", "looks around"),
        ("(?<=a)b", "looks around"),
        ("(?<!a)b", "looks around"),
        (r"(a)\1", r"refers back to a group \('\\\\1'\)"),
        (r"(?P<q>a)\k<q>", "refers back to a group"),
        ("(?P<q>a)(?P=q)", "refers back to a group"),
    ],
)
def test_what_is_not_is_refused_with_its_reason(regex, fault):
    """Length, repetitions, look-around and backreferences."""
    with pytest.raises(InvalidRequestError, match=fault) as caught:
        check(regex)

    assert "response_format" == caught.value.param


REPEATED = st.recursive(
    st.sampled_from(["a", "[b-d]", r"\{", r"\x{41}", "[{9}]"]).map(lambda atom: (atom, 1)),
    lambda parts: st.one_of(
        st.tuples(parts, st.integers(1, 60)).map(
            lambda drawn: (f"(?:{drawn[0][0]}){{{drawn[1]}}}", drawn[0][1] * drawn[1])
        ),
        st.tuples(parts, parts).map(
            lambda drawn: (drawn[0][0] + drawn[1][0], drawn[0][1] + drawn[1][1])
        ),
        st.tuples(parts, parts).map(
            lambda drawn: (f"({drawn[0][0]}|{drawn[1][0]})", drawn[0][1] + drawn[1][1])
        ),
    ),
    max_leaves=6,
)


@given(REPEATED)
def test_what_repetitions_come_to_is_counted_exactly(repeated):
    """However they are nested, the bound is met by what is written out, and not by what is read."""
    regex, size = repeated
    try:
        check_regex(regex, where="It", max_length=1000, param="")
    except InvalidRequestError:
        assert size > MAX_WRITTEN_OUT
    else:
        assert size <= MAX_WRITTEN_OUT
