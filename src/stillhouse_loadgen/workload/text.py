"""Generates meaningless text: random words from a list, the same for the same seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# The words are short and common, so that most of them are one token in most vocabularies.
_TEXT = """
    able about above act add after again age ago air all also always among and animal answer any
    area arm around art ask away back bad bank base be bear beat bed before began behind best better
    big bird black blue boat body book both box boy bring brother brown build built burn but buy
    call came can car care carry case catch cause center change child city class clean clear close
    cold color come common cook cool copy corn count country course cover cross cry cut dark day
    deep did do doctor dog done door down draw dream dress drink drive drop dry each ear early earth
    east eat edge egg end energy engine enter equal even every eye face fact fall family far farm
    fast father feel feet few field fight figure fill find fine fire first fish five floor flow
    follow food foot for force form four free friend from front full game garden gave general girl
    give glass go gold gone good got great green ground group grow had half hand hard has have he
    head hear heart heat heavy help her here high hill his hold home horse hot hour house how
    hundred ice idea if in inch iron island it job join just keep key kind king knew know lady lake
    land large last late law lay lead learn leave left leg less let letter level life light like
    line list little live long look love low machine made main make man many map mark may me mean
    men metal middle might mile milk mind minute miss money month moon more morning most mother
    mountain move much music must my name near need never new next night nine no north note nothing
    now number object off often oil old on once one only open or order other our out over own page
    paper part pass past path pay people perhaps person picture piece place plain plan plane plant
    play point poor power press problem pull push put question quick quiet race rain ran reach read
    ready real red rest rich ride right ring river road rock room round rule run safe said salt same
    sand save say school sea season seat second see seed seem self sell send sentence set seven
    shape she ship shop short show side sight simple sing sister sit six size skin sky sleep slow
    small snow soft soil some son song soon sound south space speak spring stand star start state
    stay step still stone stood stop store story street strong study such summer sun sure table tail
    take talk teach team tell ten test than that the them then there these thing think this those
    thought three through time to today together told too took top total touch town track trade
    train tree trip true try turn two under unit until up us use usual valley very view visit voice
    wait walk wall want war warm was wash watch water wave way we wear week well went were west
    wheel when where which while white who whole why wide wild will win wind winter wish with woman
    wonder wood word work world write year yellow yes yet you young your
"""
WORDS = tuple(_TEXT.split())


def words_from(rng: np.random.Generator, count: int) -> list[str]:
    """Returns *count* random words."""
    return [WORDS[place] for place in rng.integers(len(WORDS), size=count).tolist()]


def rng_of(*seed: int) -> np.random.Generator:
    """Returns the random generator of one purpose, independent of all others."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))


def text_of(words: Sequence[str]) -> str:
    """Joins words to text."""
    return " ".join(words)
