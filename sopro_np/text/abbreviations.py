"""Abbreviations, in the word they stand for; their full stop stays only where it ends the sentence."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule, stop_after, stop_after_time
from sopro_np.text.units import UNITS

# before a name, with or without a full stop
TITLES = {
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Mx": "Mix", "Dr": "Doctor", "Prof": "Professor", "Rev": "Reverend",
    "Gen": "General", "Sen": "Senator", "Rep": "Representative", "Gov": "Governor", "Sgt": "Sergeant",
    "Capt": "Captain", "Lt": "Lieutenant", "Col": "Colonel", "Cpl": "Corporal", "Pvt": "Private", "Maj": "Major",
    "Cmdr": "Commander", "Adm": "Admiral", "Hon": "Honorable", "Fr": "Father", "Pres": "President", "Supt": "Superintendent",
    "Mt": "Mount", "Ft": "Fort", "Messrs": "Messers", "Amb": "Ambassador",
}  # fmt: skip
# with a full stop, anywhere
DOTTED = {
    "vs": "versus", "etc": "et cetera", "approx": "approximately", "dept": "department", "est": "estimated",
    "min": "minutes", "max": "maximum", "vol": "volume", "fig": "figure", "figs": "figures", "eq": "equation",
    "ch": "chapter", "pp": "pages", "jr": "junior", "sr": "senior", "inc": "incorporated", "ltd": "limited",
    "corp": "corporation", "co": "company", "bros": "brothers", "ave": "avenue", "blvd": "boulevard", "rd": "road",
    "ln": "lane", "hwy": "highway", "apt": "apartment", "ste": "suite", "bldg": "building", "govt": "government",
    "univ": "university", "assn": "association", "intl": "international", "tel": "telephone", "ext": "extension",
    "incl": "including", "misc": "miscellaneous", "temp": "temperature", "avg": "average", "tbsp": "tablespoon",
    "tsp": "teaspoon", "ca": "circa", "cf": "compare", "al": "al", "ed": "edition", "esp": "especially",
    "hrs": "hours", "mins": "minutes", "secs": "seconds", "yrs": "years", "lbs": "pounds", "oz": "ounces",
    "ft": "feet", "km": "kilometers", "kg": "kilograms", "cm": "centimeters", "attn": "attention", "encl": "enclosed",
    "sq": "square", "esq": "esquire", "dist": "district", "gov": "governor", "messrs": "messers",
    "viz": "namely", "ibid": "ibid", "seq": "seq", "ff": "following", "resp": "respectively", "anon": "anonymous",
    "cont": "continued", "ref": "reference", "refs": "references", "abbr": "abbreviation", "hosp": "hospital", "mfg": "manufacturing",
}  # fmt: skip
SHARED = {
    "ed",
    "al",
    "co",
    "min",
    "ca",
    "ch",
    "fig",
    "ext",
    "est",
    "temp",
    "eq",
    "max",
    "gov",
    "ref",
    "refs",
    "anon",
    "cont",
}  # words or names, too
LETTERED = {
    "e.g": "for example", "i.e": "that is", "a.k.a": "also known as", "p.s": "P S", "n.b": "N B", "a.m": "A M",
    "p.m": "P M", "ph.d": "P H D", "m.d": "M D", "b.a": "B A", "m.a": "M A", "b.sc": "B S C", "m.sc": "M S C",
    "d.c": "D C", "r.i.p": "R I P", "q.e.d": "Q E D", "b.c": "B C", "a.d": "A D",
}  # fmt: skip
CHAT = {
    "btw": "by the way",
    "imo": "in my opinion",
    "imho": "in my humble opinion",
    "idk": "I don't know",
    "thx": "thanks",
    "pls": "please",
    "plz": "please",
    "tbh": "to be honest",
    "omw": "on my way",
    "brb": "be right back",
    "afaik": "as far as I know",
    "iirc": "if I recall correctly",
    "asap": "as soon as possible",
    "w/o": "without",
    "w/": "with",
    "b/c": "because",
    "eg": "for example",
    "aka": "also known as",
    "vs": "versus",
    "ttyl": "talk to you later",
    "ppl": "people",
    "and/or": "and or",
    "he/she": "he or she",
    "his/her": "his or her",
    "s/he": "he or she",
    "n/a": "not applicable",
    "c/o": "care of",
    "a/c": "A C",
    "fwiw": "for what it's worth",
    "nvm": "never mind",
    "irl": "in real life",
    "smh": "shaking my head",
    "icymi": "in case you missed it",
    "tldr": "too long, didn't read",
    "ikr": "I know, right",
}
SHOUTED = frozenset("ASAP IMHO AFAIK IIRC IDK TBH OMW BRB BTW TTYL THX PLS PLZ FWIW NVM ICYMI TLDR IMO".split())  # in capitals, too  # fmt: skip
SAINTS = frozenset(
    (
        "Louis Paul Petersburg Peter John James Mary Nicholas Patrick Andrew Andrews George Francis Joseph "
        "Thomas Lucia Moritz Helena Augustine Valentine Bernard Kitts Tropez Albans Lawrence Martin Mark Luke "
        "Michael Vincent Anne Catherine Clair Charles Cloud Johns Stephen Croix Helens Ives Pancras Gallen"
    ).split()
)


def _title(m: re.Match[str]) -> str:
    return TITLES[m[1]]


def _dotted(m: re.Match[str]) -> str | None:
    low = m[1].lower()
    if low not in DOTTED or (low in SHARED and m[0].islower() is False and low in ("al", "ed")):
        return None
    if (low in UNITS or low == "sq") and re.search(
        r"(?:\d ?|/|fl\. ?|sq\. ?)$", m.string[max(m.start() - 4, 0) : m.start()]
    ):
        return None  # 5 oz. is a unit's
    if low in SHARED and stop_after(m):
        return None  # an ordinary word that ends a sentence: Call me, Ed.
    end = stop_after_time(m) if low == "etc" else stop_after(m)
    return (DOTTED[low].capitalize() if m[1][0].isupper() else DOTTED[low]) + end


def _lettered(m: re.Match[str]) -> str | None:
    spoken = LETTERED.get(m[1].lower().rstrip("."))
    if spoken is None:
        return None
    if spoken in ("for example", "that is") and m.string[m.end() : m.end() + 1] not in ("", "\n", ",", ":"):
        spoken += ","
    return spoken + (stop_after(m) if "," not in spoken else "")


def _saint(m: re.Match[str]) -> str:
    before, after = m[1] or "", m[3] or ""
    counted = re.fullmatch(r"\d{1,4}(?:st|nd|rd|th)", before)
    if (
        after
        and (after in SAINTS or not counted)
        and (after in SAINTS or not before or not before[0].isupper() or m.start() == 0 or before in PLACES)
    ):
        return f"{before + m[2] if before else ''}Saint"
    return f"{before + m[2] if before else ''}Street" + ("." if m[0].rstrip().endswith(".") and stop_after(m) else "")


PLACES = frozenset(("In At On From To Near Visit The And Of For Old Fort Mount Lake Port").split())


def _drive(m: re.Match[str]) -> str:
    return f"{m[1]} Drive" + stop_after(m)


def _chat(m: re.Match[str]) -> str | None:
    spoken = CHAT.get(m[0].lower())
    if spoken is None or (m[0].isupper() and m[0].isalpha() and m[0] not in SHOUTED):
        return None
    before = m.string[max(m.start() - 2, 0) : m.start()]
    begins = m[0][0].isupper() and (not m[0].isupper() or not before.strip() or before[0] in ".!?\n")
    return spoken[0].upper() + spoken[1:] if begins else spoken


RULES: tuple[Rule, ...] = (
    rule("Saint or Street", r"(?:\b([A-Za-z0-9]{1,20})( ))?\bSt\b\.?(?= ([A-Z][a-z]{1,20})|[ ,;:!?)\n]|$)", _saint,
         ("in St. Louis", "in Saint Louis"), ("at 12 Baker St.", "at twelve Baker Street."), ("on Main St. today", "on Main Street today"),
         ("He lives on 5th St. She likes it.", "He lives on fifth Street. She likes it.")),
    rule("Drive with a number", r"\b(\d{1,5}[A-Za-z]? (?:[A-Z][a-z]{1,20} ){0,2}[A-Z][a-z]{2,20}) Dr\b\.?", _drive, ("at 9 Oak Dr. Ring", "at nine Oak Drive Ring")),
    rule("Drive", r"\b(?!The )([A-Z][a-z]{2,20}) Dr\.(?! [A-Z][a-z])(?=\s|[,;:!?)]|$)", _drive, ("on Mulholland Dr. today", "on Mulholland Drive today")),
    rule("generation", r"\bGen\.? (?=(?:[XYZ]|Alpha)\b)", "Generation ", ("for Gen Z", "for Generation Z")),
    rule("circa, born, died", r"\b([cbd])\. ?(?=1\d{3}\b(?!,\d))|(?<![\d/] )\b(c)\. ?(?=\d{1,4} (?:BC|AD|BCE|CE)\b|[2-9]\d\d\b|[12]0\d\d\b)", lambda m: {"c": "circa ", "b": "born ", "d": "died "}[m[1] or m[2]], ("c. 1450", "circa fourteen fifty")),
    rule("century", r"(?<=\d(?:st|nd|rd|th) )c\.(?= )", "century", ("the 3rd c. BC", "the third century B C")),
    rule("road", r"(?<=[a-z] )(Rd|Ave|Blvd|Pkwy)\b(?!\.)", lambda m: {"Rd": "Road", "Ave": "Avenue", "Blvd": "Boulevard", "Pkwy": "Parkway"}[m[1]], ("on Park Ave, we", "on Park Avenue, we")),
    rule("degrees", r"(?<![\w.])((?:[A-Z][a-z]?\.){2,4})s\b", lambda m: " ".join(re.findall(r"[A-Za-z]", m[1])).upper() + "s", ("two Ph.D.s", "two P H Ds")),
    rule("title", r"\b(" + "|".join(TITLES) + r")\b\.?(?= (?:[A-Z]|\ue000))", _title, ("Dr. Smith", "Doctor Smith"), ("Mr and Mrs Jones", "Mister and Missus Jones")),
    rule("title left over", r"(?<!&)\b(Mr|Mrs|Ms|Dr|Prof)\b\.?", lambda m: TITLES[m[1]] + (stop_after(m) if m[0].endswith(".") else ""), ("the Dr. said", "the Doctor said")),
    rule("number, page", r"\b(?:(?<!said )(?<!says )(?<!say )(?<!told me )(?<!voted )(?<!replied )(?<!answered )([Nn]o)|([Nn]os|[Pp]p?|[Vv]ol|[Ff]ig|[Ss]ec|[Pp]aras?|[Ee]p|[Rr]te|[Cc]h|[Ee]q|[Aa]rt))\. ?(?=\d|(?<=[p]\. )[ivxl]{1,7}\b)",
         lambda m: {"no": "number ", "nos": "numbers ", "p": "page ", "pp": "pages ", "vol": "volume ", "fig": "figure ",
                    "sec": "section ", "para": "paragraph ", "paras": "paragraphs ", "ep": "episode ", "rte": "route ", "ch": "chapter ", "eq": "equation ", "art": "article "}[(m[1] or m[2]).lower()],
         ("No. 5", "number five"), ("see p. 12", "see page twelve"), ("Fig. 3", "figure three")),
    rule("minimum", r"(?<!\d )(?<!\d)(?<!few )(?<!half )(?<!ten )(?<!five )(?<!several )\b([Mm])in\. ?(?=[\d$€£]|[a-z])(?!(?:later|from|before|after|and|or|to|at|until|ago)\b)", r"\1inimum ", ("min. 5 characters", "minimum five characters")),
    rule("population", r"\b([Pp])op\. ?(?=\d{1,3},\d{3}|\d{3})", r"\1opulation ", ("pop. 5,000", "population five thousand")),
    rule("literally", r"\blit\. ?(?=['\"a-z])", "literally ", ("lit. good", "literally good")),
    rule("works cited", r"\b([Oo]p|[Ll]oc)\. cit\.", lambda m: f"{m[1]} cit{stop_after(m)}", ("see op. cit. again", "see op cit again")),
    rule("founded", r"\b([Ee])st\. (?=1\d{3}|20\d\d)", r"\1stablished in ", ("Est. 1898", "Established in eighteen ninety eight")),
    rule("abbreviation of letters", r"(?<![\w.])((?:[A-Za-z]{1,2}\.){1,3}[A-Za-z]{1,2})\b\.?", _lettered,
         ("fruit, e.g. apples", "fruit, for example, apples"), ("the best, i.e., mine", "the best, that is, mine"), ("She has a Ph.D.", "She has a P H D.")),
    rule("abbreviation", r"(?<![\w.'])([A-Za-z]{2,6})\.(?![\w])", _dotted,
         ("cats vs. dogs", "cats versus dogs"), ("eggs, milk, etc.", "eggs, milk, et cetera."), ("Acme Inc. grows", "Acme Incorporated grows"), ("eggs, etc. Bob left", "eggs, et cetera. Bob left")),
    rule("short forms of chat", r"(?<![\w/])(?<!\b[A-Z] )(?:[A-Za-z]{1,5}/(?:[A-Za-z]{1,3})?|[A-Za-z]{2,5})(?![\w/])", _chat,
         ("btw it works", "by the way it works"), ("coffee w/o milk", "coffee without milk"), ("c/o Mary", "care of Mary")),
)  # fmt: skip
