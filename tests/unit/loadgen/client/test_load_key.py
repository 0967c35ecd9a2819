from __future__ import annotations

from collections import Counter

import pytest

from stillhouse_loadgen.client.load_key import KeyRing, LoadKey, parse_keys, read_keys
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.workload.text import rng_of


def test_keys_with_and_without_shares():
    """A share follows the last colon; a scoped token's own colon is none."""
    keys = parse_keys(["sh_a:1", "sh_b:2.5", "jwt:eyJh.b.c", "jwt:eyJh.b.c:3"])

    assert [
        ("key 1", "sh_a", 1),
        ("key 2", "sh_b", 2.5),
        ("key 3", "jwt:eyJh.b.c", 1),
        ("key 4", "jwt:eyJh.b.c", 3),
    ] == [(key.label, key.secret, key.share) for key in keys]


def test_secrets_are_not_shown():
    """What is printed of a key has nothing of the secret."""
    assert "sh_secret" not in str(parse_keys(["sh_secret:2"]))


def test_load_is_spread_by_shares():
    """Of many draws, each key has its share."""
    ring, rng = KeyRing([LoadKey("a", "x", 1), LoadKey("b", "y", 10)]), rng_of(5)
    drawn = Counter(ring.draw(rng).label for _ in range(11_000))

    assert pytest.approx(1000, rel=0.1) == drawn["a"]
    assert 11_000 == drawn.total()


@pytest.mark.parametrize("text", ["", ":1", "sh_a:0", "sh_a:-1", "sh_a:nan", "sh_a:inf", "a b"])
def test_what_is_no_key_is_refused(text):
    """An empty secret, or a share that is no number above zero."""
    with pytest.raises(ArgumentError, match="key 1"):
        parse_keys([text])


def test_keys_file(tmp_path):
    """Each table is a key, called by its name."""
    path = tmp_path / "keys.toml"
    path.write_text('[alice]\nkey = "sh_a"\n[bob]\nkey = "sh_b"\nshare = 10\n')

    assert [LoadKey("alice", "sh_a", 1), LoadKey("bob", "sh_b", 10)] == read_keys(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no keys"),
        ("[a", "is not TOML"),
        ("[a]\nshare = 1", r"\[a\] has no key"),
        ("a = 1", r"\[a\] has no key"),
        ('[a]\nkey = ""', "is not an API key"),
        ('[a]\nkey = "x"\nshare = "1"', "share"),
        ('[a]\nkey = "x"\nweight = 1', "'weight'; known here: key, share"),
    ],
)
def test_wrong_keys_file(tmp_path, text, complaint):
    """The message names the file and what is wrong in it."""
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=complaint):
        read_keys(path)


def test_missing_keys_file(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(ArgumentError, match=r"none\.toml: cannot be read"):
        read_keys(tmp_path / "none.toml")
