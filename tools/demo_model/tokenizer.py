"""The byte-level BPE tokenizer, its special tokens and its chat template."""

import random
import re
from collections.abc import Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.demo_model.conversations import converse
from tools.demo_model.world import NAMES

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK, THOUGHT = "<think>", "</think>"
CONTROL = (BOS, EOS, PAD)
VISIBLE = (USER, ASSISTANT, THINK, THOUGHT)
VOCABULARY = 2048
TRAINING_CONVERSATIONS = 60_000

CHAT_TEMPLATE = (
    "{% if not add_generation_prompt is defined %}"
    "{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(system_prompt='') %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
    "{{bos_token}}{{ns.system_prompt}}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}"
    "{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}"
    "{%- endfor -%}"
    "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"
)


def _pattern() -> str:
    """Words, digits and marks stand alone; so does a whole name, so that a copy is one step."""
    spelled = sorted({*NAMES, *map(str.lower, NAMES)}, key=len, reverse=True)
    names = rf"(?:{'|'.join(map(re.escape, spelled))})(?!\p{{L}})"
    return rf"{names}| (?={names})| ?\p{{L}}+|\p{{N}}|\n+|[^\s\p{{L}}\p{{N}}]|\s"


def _corpus(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(TRAINING_CONVERSATIONS):
        talked = converse(rng)
        yield talked.system
        for turn in talked.turns:
            yield from turn
        yield from (talked.user, f"\n{talked.thought}\n", f"\n\n{talked.answer}")


def train_tokenizer(seed: int) -> Tokenizer:
    """A tokenizer learnt from generated conversations."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_pattern()), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CONTROL) - len(VISIBLE),
        min_frequency=20,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in VISIBLE])
    return tokenizer


def tokenizer_config(context: int) -> dict[str, object]:
    """What Hugging Face keeps beside tokenizer.json."""
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": BOS,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "model_max_length": context,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token that the vocabulary must have."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise LookupError(f"the tokenizer has no token {token!r}")
    return found
