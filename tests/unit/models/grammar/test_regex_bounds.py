import pytest

from stillhouse.errors import InvalidRequestError
from stillhouse.models.grammar.regex_bounds import check_regex


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
