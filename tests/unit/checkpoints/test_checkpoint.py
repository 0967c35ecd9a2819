import json
import os
from pathlib import Path

import pytest

from stillhouse.checkpoints.checkpoint import find_checkpoint, read_checkpoint
from stillhouse.errors import CheckpointError
from tests.unit.text.checkpoints import BOS, EOS, write_checkpoint
from tests.unit.text.templates import R1


def test_whole_checkpoint_is_read(tmp_path, tokenizer):
    """Context, end token, special tokens and template come from the checkpoint's own files."""
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, tokenizer, context_length=77))

    assert (77, (tokenizer.token_to_id(EOS),), {"bos_token": BOS, "eos_token": EOS}, R1) == (
        checkpoint.context_length,
        checkpoint.end_token_ids,
        checkpoint.special_tokens,
        checkpoint.chat_template,
    )


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [5, 6]}, {"eos_token_id": 7}, (5, 6)),
        ({}, {"eos_token_id": 7}, (7,)),
        ({}, {"eos_token_id": [7, 8]}, (7, 8)),
        ({"eos_token_id": 0}, {"eos_token_id": 7}, (0,)),
        ({}, {"eos_token_id": None}, ()),
    ],
)
def test_generation_config_names_the_end_tokens_first(
    tmp_path, tokenizer, generation, config, expected
):
    """generation_config.json goes before config.json; each may name one or several."""
    write_checkpoint(tmp_path, tokenizer)
    _write(tmp_path / "generation_config.json", generation)
    _write(tmp_path / "config.json", {"max_position_embeddings": 9} | config)

    assert expected == read_checkpoint(tmp_path).end_token_ids


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), (False, False), (None, None), ("yes", None)]
)
def test_begin_token_is_added_where_the_configuration_says_so(tmp_path, tokenizer, value, expected):
    """Only true and false are words of the configuration's; anything else leaves it open."""
    write_checkpoint(tmp_path, tokenizer)
    _write(tmp_path / "tokenizer_config.json", {"add_bos_token": value, "chat_template": "t"})

    assert expected is read_checkpoint(tmp_path).adds_bos


def test_template_of_its_own_file_goes_first(tmp_path, tokenizer):
    """chat_template.jinja replaces what tokenizer_config.json holds."""
    write_checkpoint(tmp_path, tokenizer)
    (tmp_path / "chat_template.jinja").write_text("own", encoding="utf-8")

    checkpoint = read_checkpoint(tmp_path)

    assert ("own", str(tmp_path / "chat_template.jinja")) == (
        checkpoint.chat_template,
        checkpoint.chat_template_source,
    )


def test_default_is_taken_from_named_templates(tmp_path, tokenizer):
    """Of a list of named templates, the one called default is for chat."""
    write_checkpoint(tmp_path, tokenizer)
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    _write(tmp_path / "tokenizer_config.json", {"chat_template": named})

    assert "d" == read_checkpoint(tmp_path).chat_template


@pytest.mark.parametrize("value", [None, "", [], [{"name": "rag", "template": "x"}], 7])
def test_a_checkpoint_may_have_no_template(tmp_path, tokenizer, value):
    """A checkpoint without a chat template is read; a model for text needs none."""
    write_checkpoint(tmp_path, tokenizer)
    _write(tmp_path / "tokenizer_config.json", {"chat_template": value})

    assert read_checkpoint(tmp_path).chat_template is None


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("config.json", "{", "is not JSON"),
        ("config.json", "[]", "right would be a JSON object"),
        ("config.json", "{}", "max_position_embeddings is missing"),
        ("config.json", "[" * 100_000, "is not JSON"),
        ("config.json", b"\xff", "is not UTF-8"),
        ("tokenizer.json", None, "cannot be read"),
    ],
)
def test_wrong_file_is_named(tmp_path, tokenizer, name, text, fault):
    """Each fault names its file."""
    write_checkpoint(tmp_path, tokenizer)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path)

    assert caught.value.message.startswith(f"{tmp_path / name}")
    assert fault in caught.value.message


def test_huge_file_is_not_read(tmp_path, tokenizer):
    """A file far beyond any real tokenizer is refused by its size alone."""
    write_checkpoint(tmp_path, tokenizer)
    os.truncate(tmp_path / "tokenizer.json", (1 << 26) + 1)  # sparse: takes no room

    with pytest.raises(CheckpointError, match="is larger than 67108864 bytes"):
        read_checkpoint(tmp_path)


def test_relative_path_starts_at_the_given_folder(tmp_path, tokenizer):
    """Paths may be relative to the configuration that names them."""
    path = write_checkpoint(tmp_path / "a" / "b", tokenizer)

    assert path.resolve() == find_checkpoint("a/b", base_dir=tmp_path)


def test_missing_checkpoint_says_where_it_was_looked_for(tmp_path):
    """The message names every place that was tried."""
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("nothing", base_dir=tmp_path)

    assert str(tmp_path / "nothing" / "config.json") in caught.value.message
    assert "packaged/nothing/config.json" in caught.value.message


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
