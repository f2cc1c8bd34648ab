"""One spelling for what sounds alike: the same words of a text and of what was heard, whoever wrote them down.

A recogniser writes "In 1998 Dr. Smith paid $5" or "in nineteen ninety eight doctor smith paid five dollars", "colour"
or "color", "e-mail", "email" or "e mail". None of that can be heard, so none of it is an error.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from sopro_np.errors import UsageError
from sopro_np.text.normalise import normalise as as_spoken

# Endings of British spelling and what American makes of them, tried in order; both sides go through, so that it does
# not matter if a word is no word any more ("wise" is "wize" on either side). What sounds different stays different.
ENDINGS = tuple(
    (re.compile(pattern), american)
    for pattern, american in (
        (r"(?<=[a-z]{2})our(?=(s|ed|er|ers|ing|ings|ite|ites|ful|less|able|ably|hood|hoods|ly)?$)", "or"),
        (r"(?<=[a-z]{2})is(?=(e|es|ed|er|ers|ing|ation|ations|able)$)", "iz"),
        (r"(?<=[a-z]{2}l)ys(?=(e|es|ed|er|ers|ing)$)", "yz"),
        (r"(?<=[a-z][bt])re(?=s?$)", "er"),
        (r"(?<=[a-z])ogue(?=s?$)", "og"),
        (r"(?<=[a-z])enc(?=e(s|d|less)?$)", "ens"),
        (r"(?<=[aeiou][a-z][ae])ll(?=(ed|er|ers|ing|ings|or|ors|ation|ations|ous)$)", "l"),
        (r"(?<=[aeiou][a-z]{2}[ae])ll(?=(ed|er|ers|ing|ings|or|ors|ation|ations|ous)$)", "l"),
        (r"(?<=[a-z]{2}[dg])gement(?=s?$)", "gment"),
    )
)
PAIRS = """
    grey:gray greyer:grayer greys:grays tyre:tire tyres:tires kerb:curb kerbs:curbs plough:plow ploughs:plows
    ploughed:plowed ploughing:plowing programme:program programmes:programs cheque:check cheques:checks
    pyjamas:pajamas moustache:mustache moustaches:mustaches sceptical:skeptical sceptic:skeptic jewellery:jewelry
    ageing:aging cosy:cozy axe:ax artefact:artifact artefacts:artifacts draught:draft draughts:drafts whisky:whiskey
    yoghurt:yogurt doughnut:donut doughnuts:donuts sulphur:sulfur mould:mold moulds:molds mouldy:moldy okay:ok
    alright:allright mr:mister mrs:missus misses:missus dr:doctor storey:story storeys:stories manoeuvre:maneuver
    manoeuvres:maneuvers encyclopaedia:encyclopedia fulfil:fulfill skilful:skillful enrol:enroll
    instalment:installment practise:practice practised:practiced practising:practicing
"""
WORDS = dict(pair.split(":") for pair in PAIRS.split())
NUMBERS = """
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety first second third fourth fifth sixth
    seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth
    nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth
"""
LARGE = "hundred|thousand|million|billion"
AND = re.compile(rf"\b({LARGE}) and (?=({'|'.join(NUMBERS.split())})\b)")  # a recogniser writes 105 for either
ONE = re.compile(rf"\ban? (?={LARGE})")


def comparable(text: str) -> str:
    """Its spoken form in small letters, apostrophes inside words and single spaces, in one spelling."""
    text = unicodedata.normalize("NFKC", text)
    with suppress(UsageError):  # where nothing can be said, or not as it stands, it counts as it is written
        text = as_spoken(text, lenient=True).text
    text = text.lower().replace("’", "'")
    text = "".join(c if c.isalpha() or c == "'" else " " for c in text)
    text = " ".join(spelt(word) for raw in text.split() if (word := raw.strip("'")))
    return ONE.sub("one ", AND.sub(r"\1 ", text))


def spelt(word: str) -> str:
    """A word in small letters -> in the one spelling of all that sound so."""
    word = WORDS.get(word, word)
    for pattern, american in ENDINGS:
        word = pattern.sub(american, word)
    return word


def cut_as(text: Sequence[str], heard: Sequence[str]) -> list[str]:
    """The words heard, two joined or one split in two where the text has them so: nobody hears a blank."""
    words, pairs = set(text), {a + b: (a, b) for a, b in pairwise(text)}
    found: list[str] = []
    rest = list(reversed(heard))
    while rest:
        word = rest.pop()
        if rest and word + rest[-1] in words and pairs.get(word + rest[-1]) != (word, rest[-1]):
            found.append(spelt(word + rest.pop()))
        elif word not in words and word in pairs:
            found += pairs[word]
        else:
            found.append(word)
    return found
