"""Writes a tokenizer for random weights: every byte is a token, and every id has a text."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

BEGIN, END = "<|begin|>", "<|end|>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] }}: {{ message['content'] }}\n"
    "{% endfor %}assistant:"
)


def add_tokenizer(directory: Path) -> None:
    """Write tokenizer, chat template and end token beside the weights in *directory*."""
    vocab_size = json.loads((directory / "config.json").read_text())["vocab_size"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    num_words = vocab_size - len(alphabet) - 2
    entries = [*alphabet, *(f"w{number}" for number in range(num_words))]
    vocab = {entry: id_ for id_, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(BEGIN, special=True), AddedToken(END, special=True)])
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {"chat_template": TEMPLATE, "bos_token": BEGIN, "eos_token": END}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    end_id = tokenizer.token_to_id(END)
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": end_id}))
