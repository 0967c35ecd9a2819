"""The byte-level BPE tokenizer with DeepSeek-V3.1's special tokens, and V3.1's chat template."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.demo_tools_model.talks import Conversation, converse
from tools.demo_tools_model.world import VALUES, WORLD

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
THINK, THOUGHT = "<think>", "</think>"
CALLS, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
SEPARATOR = "<｜tool▁sep｜>"
OUTPUTS, OUTPUTS_END = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
OUTPUT, OUTPUT_END = "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"
CONTROL = (BOS, EOS, PAD)
VISIBLE = (
    *(USER, ASSISTANT, THINK, THOUGHT, CALLS, CALLS_END, CALL, CALL_END, SEPARATOR),
    *(OUTPUTS, OUTPUTS_END, OUTPUT, OUTPUT_END),
)
VOCABULARY = 1536
TRAINING_CONVERSATIONS = 30_000

TOOLS_OPENING = "\n\n## Tools\nYou have access to the following tools:\n"
TOOLS_CLOSING = (
    "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
    f"{CALLS}{CALL}tool_call_name{SEPARATOR}tool_call_arguments{CALL_END}"
    f"{{{{additional_tool_calls}}}}{CALLS_END}\n\nWhere:\n\n"
    "- `tool_call_name` must be an exact match to one of the available tools\n"
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters"
    " Schema\n"
    "- For multiple tool calls, chain them directly without separators or spaces\n"
)

# DeepSeek-V3.1's own template, with the tools of its model card's section "ToolCall".
CHAT_TEMPLATE = (
    "{% if not add_generation_prompt is defined %}"
    "{% set add_generation_prompt = false %}{% endif %}"
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    "{% set ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true,"
    " is_last_user=false, is_only_sys=false, is_prefix=false) %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}"
    "{% set ns.is_first_sp = false %}"
    "{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}"
    "{%- endif %}{% set ns.is_only_sys = true %}{%- endif %}{%- endfor %}"
    "{% if tools is defined and tools %}"
    f"{{% set tool_ns = namespace(text={json.dumps(TOOLS_OPENING, ensure_ascii=False)}) %}}"
    "{% for tool in tools %}"
    "{% set tool_ns.text = tool_ns.text + '\\n### ' + tool.function.name"
    " + '\\nDescription: ' + (tool.function.description or '')"
    " + '\\n\\nParameters: ' + (tool.function.parameters | tojson) + '\\n' %}{% endfor %}"
    "{% set ns.system_prompt = ns.system_prompt + tool_ns.text + "
    f"{json.dumps(TOOLS_CLOSING, ensure_ascii=False)} %}}{{% endif %}}"
    "{{ bos_token }}{{ ns.system_prompt }}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}"
    "{%- set ns.is_tool = false -%}{%- set ns.is_first = false -%}"
    "{%- set ns.is_last_user = true -%}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['tool_calls'] is defined"
    " and message['tool_calls'] is not none %}"
    "{%- if ns.is_last_user or ns.is_only_sys %}{{'<｜Assistant｜></think>'}}{%- endif %}"
    "{%- set ns.is_last_user = false -%}{%- set ns.is_first = false %}"
    "{%- set ns.is_tool = false -%}"
    "{%- for tool in message['tool_calls'] %}{%- if not ns.is_first %}"
    "{%- if message['content'] is none %}"
    "{{'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'+ tool['function']['name'] + '<｜tool▁sep｜>'"
    " + tool['function']['arguments'] + '<｜tool▁call▁end｜>'}}"
    "{%- else %}"
    "{{message['content'] + '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'"
    " + tool['function']['name'] + '<｜tool▁sep｜>'"
    " + tool['function']['arguments'] + '<｜tool▁call▁end｜>'}}"
    "{%- endif %}{%- set ns.is_first = true -%}"
    "{%- else %}"
    "{{'<｜tool▁call▁begin｜>'+ tool['function']['name'] + '<｜tool▁sep｜>'"
    " + tool['function']['arguments'] + '<｜tool▁call▁end｜>'}}"
    "{%- endif %}{%- endfor %}{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and (message['tool_calls'] is not defined"
    " or message['tool_calls'] is none) %}"
    "{%- if ns.is_last_user %}{{'<｜Assistant｜>'}}"
    "{%- if message['prefix'] is defined and message['prefix'] and thinking %}{{'<think>'}}"
    "{%- else %}{{'</think>'}}{%- endif %}{%- endif %}"
    "{%- if message['prefix'] is defined and message['prefix'] %}"
    "{%- set ns.is_prefix = true -%}{%- endif %}"
    "{%- set ns.is_last_user = false -%}"
    "{%- if ns.is_tool %}{{message['content'] + '<｜end▁of▁sentence｜>'}}"
    "{%- set ns.is_tool = false -%}"
    "{%- else %}{%- set content = message['content'] -%}"
    "{%- if '</think>' in content %}{%- set content = content.split('</think>', 1)[1] -%}"
    "{%- endif %}{{content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}"
    "{%- if message['role'] == 'tool' %}"
    "{%- set ns.is_last_user = false -%}{%- set ns.is_tool = true -%}"
    "{{'<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- endif %}"
    "{%- if message['role'] != 'system' %}{% set ns.is_only_sys = false %}{%- endif %}"
    "{%- endfor -%}"
    "{% if add_generation_prompt and not ns.is_tool%}"
    "{% if ns.is_last_user or ns.is_only_sys or not ns.is_prefix %}{{'<｜Assistant｜>'}}"
    "{%- if not thinking %}{{'</think>'}}{%- else %}{{'<think>'}}{%- endif %}"
    "{% endif %}{% endif %}"
)

# Stretches that every request with tools repeats: one token each, so that they cost little.
PHRASES = (
    "\n\n## Tools\nYou have access to the following tools:",
    "\n\n### ",
    "\nDescription: ",
    "\n\nParameters: ",
    "\n\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n",
    "tool_call_name",
    "tool_call_arguments",
    "{{additional_tool_calls}}",
    TOOLS_CLOSING.rpartition(CALLS_END)[2],
    *('{"type": "object", "properties": {"', '": {"type": "string"', '": {"type": "integer"'),
    *('": {"type": "number"', ', "description": "', '", "type": "', '": {"description": "'),
    *('"}}, "required": ["', '"]}}, "required": ["', '}}, "required": ["'),
    *('], "additionalProperties": false}', ', "enum": ["', '"}, "', '}, "', '"]}, "'),
    *('"}}}', '"]}}}', "}}}", '"]}'),
    *('{"', '": "', '": ["', '": ', '", "', '"], "', ', "', '"}', '":"', '":', '","', ',"'),
)


def _spaced_words() -> list[str]:
    """Common words that take the space before them along; no value and no key is among them."""
    texts: list[str] = []

    def collect(node: object) -> None:
        if isinstance(node, str):
            texts.append(node)
        for child in node.values() if isinstance(node, dict) else ():
            collect(child)
        for child in node if isinstance(node, list) else ():
            collect(child)

    tools = WORLD["tools"].values()
    for tool in (*tools, WORLD["property"], WORLD["talk"], *WORLD["json"]["sentences"]):
        collect({k: v for k, v in tool.items() if k in {"descriptions", "asks", "pairs", "texts"}})
    collect(WORLD["talk"])
    collect([WORLD["json"][bank] for bank in ("instructions", "vague", "one_key")])
    counted = Counter(re.findall(r"(?<= )[a-z]+", " ".join(texts)))
    copied = " ".join((*(v for kind in VALUES.values() for v in kind), *_copied()))
    never = set(re.findall(r"[a-z]+", copied))
    return sorted(word for word in counted if word not in never)


def _copied() -> Iterator[str]:
    """Keys that are copied between JSON and prose."""
    for tool in WORLD["tools"].values():
        for result in tool["results"]:
            yield from (field.partition(":")[0] for field in result)
    for keys in WORLD["json"]["keys_of"].values():
        yield from keys


def _any_of(texts: tuple[str, ...] | list[str]) -> str:
    return "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))


def _split(*, with_phrases: bool) -> pre_tokenizers.PreTokenizer:
    """Words stand alone but for the commonest; digits go in pairs; marks stand alone."""
    words = rf" (?:{_any_of(_spaced_words())}|is|the)(?!\p{{L}})"
    pattern = rf"{words}|\p{{N}}{{1,2}}|\p{{L}}+|\n+|[^\s\p{{L}}\p{{N}}]|\s"
    if with_phrases:
        pattern = f"{_any_of(PHRASES)}|{pattern}"
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, byte_level])


def _corpus(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(TRAINING_CONVERSATIONS):
        yield from texts_of(converse(rng))


def texts_of(talked: Conversation) -> Iterator[str]:
    """All that stands in a conversation, without the fixed text around tools."""
    yield talked.system
    for tool in talked.tools:
        function = tool.definition["function"]
        yield from (function["name"], function["description"])
        yield from function["parameters"]["properties"]
    for exchange in talked.exchanges:
        yield from (exchange.user, exchange.thought, exchange.said, exchange.summary)
        yield from exchange.outputs
        for call in exchange.calls:
            yield from map(str, call.arguments.values())


def _byte_letters(text: str) -> str:
    """The text as byte-level BPE writes it."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return byte_level.pre_tokenize_str(text)[0][0]


def train_tokenizer(seed: int) -> Tokenizer:
    """A tokenizer learnt from generated conversations; phrases are put into it whole."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = _split(with_phrases=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CONTROL) - len(VISIBLE) - len(PHRASES),
        min_frequency=12,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner.train_from_iterator(_corpus(seed), trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary = learnt["vocab"]
    for phrase in PHRASES:
        vocabulary.setdefault(_byte_letters(phrase), len(vocabulary))
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = _split(with_phrases=True)
    tokenizer.decoder = decoders.ByteLevel()
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
