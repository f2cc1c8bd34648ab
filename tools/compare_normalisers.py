"""Our text normaliser against an independent one: NeMo's English grammars as kitten-text-processing has them.

    python -m venv other && other/bin/pip install kitten-text-processing==0.1.0
    python tools/compare_normalisers.py --other other/bin/python

The other package has 15 MB and needs a quarter of a second a sentence, so it is no dependency: `--other` names the
Python that has it (this one by default). Sentences: tests/data/spoken.jsonl, spoken_blind.jsonl and compared.txt.
Both results are compared word by word without case and punctuation; then again without three conventions of writing
(`same`). Each sentence that still differs has a judgement in tests/data/judgements.jsonl, as have those that both say
alike and wrong; one whose recorded results are no longer those of today is no judgement. `--new FILE` writes the
differences not yet judged as lines to be completed; the exit code is 1 while there are any.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sopro_np.text.normalise import normalise

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
VERDICTS = ("ours right", "theirs right", "both right", "both wrong")
# reads a JSON list of texts on stdin, writes a list of (spoken or null, problem)
OTHER = """
import json, sys
from kitten_text_processing import normalize_text
def said(text):
    try:
        return normalize_text(text), ""
    except Exception as error:
        return None, repr(error)
json.dump([said(text) for text in json.load(sys.stdin)], sys.stdout)
"""


def sentences() -> list[str]:
    """Every sentence compared, once, in order."""
    lines = [line for name in ("spoken", "spoken_blind") for line in read(f"{name}.jsonl")]
    texts = [json.loads(line)["text"] for line in lines]
    return list(dict.fromkeys([*texts, *read("compared.txt")]))


def read(name: str) -> list[str]:
    return (DATA / name).read_text("utf-8").splitlines()


def judgements() -> dict[str, dict[str, str]]:
    """text -> {text, ours, theirs, verdict, why}."""
    return {one["text"]: one for one in map(json.loads, read("judgements.jsonl"))}


def words(spoken: str) -> list[str]:
    """Without case and punctuation; apostrophes stay inside words."""
    plain = spoken.casefold()
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*|[<>=≤≥≈±×÷√∞→°²³¢₹|]", plain)


def same(spoken: str) -> list[str]:
    """Words without three conventions: F B I or FBI, and inside numbers or not, nine oh five or nine o five."""
    text = " ".join(words(re.sub(r"[A-Z]{2,}", lambda m: " ".join(m[0]) + " ", spoken.replace("'s", "s"))))
    text = re.sub(r"\b(hundred|thousand|million|dollars?|euros?|pounds?) and (?=[a-z])", r"\1 ", text)
    text = re.sub(r"\bo(?= (?:one|two|three|four|five|six|seven|eight|nine)\b)", "oh", text)
    return re.sub(r"\b([a-z]) s\b", r"\1s", text).split()


def theirs(texts: list[str], python: str) -> list[str]:
    done = subprocess.run([python, "-c", OTHER], input=json.dumps(texts), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{python} cannot run the other normaliser; install it as --help says:\n{done.stderr.strip()}")
    return [said if said is not None else f"(fails: {problem})" for said, problem in json.loads(done.stdout)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", default=sys.executable, metavar="PYTHON", help="the Python that has the other one")
    parser.add_argument("--new", metavar="FILE", help="write differences not yet judged here, as JSON lines")
    parser.add_argument("--short", action="store_true", help="only the figures")
    options = parser.parse_args()

    texts, known = sentences(), judgements()
    groups: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    new: list[dict[str, str]] = []
    equal = alike = 0
    for text, other in zip(texts, theirs(texts, options.other), strict=True):
        own, other = normalise(text).text, other.replace("’", "'")
        one = known.get(text)
        if one and (one["ours"], one["theirs"]) == (own, other):
            groups.setdefault((one["verdict"], one["why"]), []).append((text, own, other))
        elif same(own) == same(other):
            equal += words(own) == words(other)
            alike += words(own) != words(other)
        else:
            new.append({"text": text, "ours": own, "theirs": other, "verdict": "", "why": ""})
            groups.setdefault(("not yet judged", ""), []).append((text, own, other))

    tally = Counter(dict.fromkeys(VERDICTS, 0))
    for (verdict, why), found in sorted(groups.items()):
        tally[verdict] += len(found)
        if not options.short:
            print(f"\n{verdict}: {why} ({len(found)})")
            for text, own, other in found:
                print(f"  {text!r}\n    ours   {own!r}\n    theirs {other!r}")
    print(f"\nsentences {len(texts)}")
    print(f"  the same words {equal} ({equal / len(texts):.0%})")
    print(f"  the same but for letters in a row, 'and' in numbers, oh {alike} ({alike / len(texts):.0%})")
    for verdict, count in tally.items():
        print(f"  {verdict} {count} ({count / len(texts):.0%})")
    if options.new:
        lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in new)
        Path(options.new).write_text(lines, "utf-8")
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
