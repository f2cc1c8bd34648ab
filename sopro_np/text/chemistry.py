"""Chemical formulas: H2SO4 and NaOH, letter by letter, their numbers as they are."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule
from sopro_np.text.spell import number

ELEMENTS = frozenset(
    (
        "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo "
        "Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb "
        "Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am"
    ).split()
)


WORDS = frozenset("Po Co No Ho In He At Am As I Os Pa La Ra Ta W".split())  # begin words and names with capitals, too


def _formula(m: re.Match[str]) -> str | None:
    parts = re.findall(r"[A-Z][a-z]?|\d+", m[0])
    symbols = [part for part in parts if part.isalpha()]
    small = any(len(symbol) == 2 for symbol in symbols)
    if m[0].isalpha() and symbols[0] in WORDS:
        return None  # CoV, PoC
    if len(symbols) < 2 or not all(symbol in ELEMENTS for symbol in symbols) or (not small and m[0].isalpha()):
        return None
    if not small and len(symbols) == len(m[0].rstrip("0123456789")):
        return None if len(symbols) < 3 else " ".join((*symbols, number(parts[-1])))
    return " ".join(number(part) if part.isdigit() else " ".join(part.upper()) for part in parts)


RULES: tuple[Rule, ...] = (
    rule("chemical formula", r"(?<![\w.'-])(?:[A-Z][a-z]?\d{0,2}|\((?:[A-Z][a-z]?\d{0,2}){1,4}\)\d{1,2}){2,8}(?![\w'])", _formula,
         ("NaOH and H2SO4", "N A O H and H two S O four"), ("Ca(OH)2", "C A O H two")),
)  # fmt: skip
