"""The wordings that people use, from phrases.toml: what training text is put together from."""

import tomllib
from pathlib import Path

_BANKS = tomllib.loads(Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8"))


def _bank(name: str) -> tuple[str, ...]:
    return tuple(_BANKS[name])


HELLO = _bank("hello")
FRIENDS = _bank("friends")
SMILES = _bank("smiles")
BEFORE = _bank("before")
HELLO_TAIL = _bank("hello_tail")
HOW = _bank("how")
BYE = _bank("bye")
THANKS = _bank("thanks")
SELF = _bank("self")
ABILITY = _bank("ability")
LIST = _bank("list")
LIST_ANY = _bank("list_any")
COUNTS: dict[str, int] = _BANKS["counts"]
EXPLAIN = _bank("explain")
ORDINALS: dict[int, tuple[str, ...]] = {
    int(place): tuple(words) for place, words in _BANKS["ordinals"].items()
}
LOOKUP = _bank("lookup")
LOOKUP_VERBS = _bank("lookup_verbs")
LOOKUP_AFTER = _bank("lookup_after")
LOOKUP_HOW = _bank("lookup_how")
NOUNS = _bank("nouns")
HAND_WRITTEN_GREETINGS = _bank("hand_written_greetings")
HAND_WRITTEN_LOOKUPS: dict[str, int] = _BANKS["hand_written_lookups"]
HAND_WRITTEN = frozenset(text.lower() for text in (*HAND_WRITTEN_GREETINGS, *HAND_WRITTEN_LOOKUPS))
ITEM_FIRST = _bank("item_first")
ITEM_NEXT = _bank("item_next")
ITEM_LAST = _bank("item_last")
LIST_OPEN = _bank("list_open")
LIST_CLOSE = _bank("list_close")
REMARK = _bank("remark")
SEED_LIST: str = _BANKS["seed_list"]
SYSTEM = _bank("system")
SYSTEM_EXTRA = _bank("system_extra")
SYSTEM_PLAIN = _bank("system_plain")
OTHER_WHO = _bank("other_who")
UNKNOWN = _bank("unknown")
OTHER_FOODS = tuple(_BANKS["other_foods"].split())
TOPICS = tuple(_BANKS["topics"].split())
STARTS = _bank("starts")
WORDS = tuple(_BANKS["words"].split())
UNKNOWN_SUMS = _bank("unknown_sums")
