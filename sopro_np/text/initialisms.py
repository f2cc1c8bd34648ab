"""Words in capitals: said as a word (NASA), spelled (FBI), or only shouted (STOP)."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule, stop_after
from sopro_np.text.spell import digits, number

SAID = frozenset(
    (
        "NASA NATO UNESCO UNICEF OPEC AIDS LASER RADAR SCUBA SONAR PIN SIM RAM ROM DOS LAN WAN GIF GUI ZIP "
        "FIFA UEFA NAFTA NASDAQ SWAT POTUS SCOTUS FEMA OSHA IKEA LEGO WHO COVID SARS COBOL BASIC FORTRAN "
        "LINUX UNIX JSON YAML TOML ASCII CAPTCHA MIDI CERN ESA MERS DARPA HIPAA TESOL BAFTA OLED WIFI GIMP "
        "MIT-licence SAT MENSA MOMA NIMBY YOLO BIOS RAID AWOL CAD"
    ).split()
)
OWN = {"JPEG": "jay peg", "MPEG": "em peg", "SQL": "S Q L", "OK": "okay", "TV": "T V", "IEEE": "I triple E", "WWW": "W W W", "NAACP": "N double A C P",
       "PNG": "P N G", "JSON": "jason", "YAML": "yammel", "LINUX": "Linux", "NUMPY": "num pie", "ASCII": "askey", "WWII": "World War two", "WWI": "World War one"}  # fmt: skip
SPELLED = frozenset(
    (
        "FBI CIA NSA USA USAF UK UN EU UAE NYC LA DC CEO CFO CTO COO HR PR IT AI ML TTS ASR API URL URI HTML "
        "HTTP HTTPS CSS XML CSV PDF PNG SVG CPU GPU TPU USB SSD HDD DVD CD TV PC OS IOS IBM HP AMD NBA NFL "
        "NHL MLB UFC BBC CNN NBC ABC CBS HBO MTV ESPN WWE IRS DIY FAQ FYI RSVP ATM GPS DNA RNA HIV MRI ICU ER "
        "EMT CPR IQ EQ BMI VIP VPN DNS IP TCP UDP SSH FTP SMTP IMAP LCD LED AC DC AM PM BC AD BCE CE GDP IPO "
        "ETF IRA LLC NGO PHD MBA BA MA GPA ID DJ MC MVP OMG LOL BTW DOI ISBN UTC GMT EST PST CET CEST EDT PDT "
        "CST MST IEEE IEA EPA FDA CDC NIH UCLA USC MIT AMA IOU EV SUV RV UFO UV IR AOL ISP IDE SDK CLI UI UX "
        "QA CI CD RSI ASAP AKA TBA TBD ETA EOD OOO PTO WFH EULA IDF IOC UNHCR IAEA"
    ).split()
)
WORDS = frozenset(
    (
        "A I THE AND NOT NO YES ALL BUT YOU ARE IS IT'S IF IN ON AT TO OF OR SO WE HE ME MY BY DO GO UP BE AS "
        "AN AM IT HIS HER SHE HIM OUR OUT OFF FOR WAS HAS HAD CAN DID GET GOT NEW NOW OLD ONE TWO TEN SIX SEE "
        "WAY WHO WHY HOW HOT BIG BAD TOP WIN WON RED RUN SAY SIT TRY USE WARNING NOTE STOP HELP WAIT FREE "
        "SALE OPEN PUSH PULL EXIT VERY MUST WILL THIS THAT WITH FROM HAVE WHAT WHEN DONT LOVE HATE GOOD BEST "
        "LAST NEXT TODO FIXME HACK HEY WOW OH AH HA HI BYE LET MAY ANY TOO END ADD AGO AIR ASK BUY CAR CUT "
        "DAY DOG CAT EAT FAR FUN GOD GUY LAW LET LOT LOW MAN MEN MOM DAD OWN PAY PUT SET SON SUN TAX TEA TEN "
        "TAKE TURN KEEP CALL READ LOUD JUST LIKE MORE ONLY EVEN EVER US"
    ).split()
)
VOWELS = set("AEIOUY")


def _shouted(m: re.Match[str]) -> bool:
    """Whether a word beside it is in capitals, too, and is no initialism."""
    around = m.string[max(m.start() - 20, 0) : m.start()], m.string[m.end() : m.end() + 20]
    before, after = (
        re.search(r"([A-Z']{2,})[ ,!?-]{1,2}$", around[0]),
        re.match(r"[ ,!?-]{1,2}([A-Z']{2,})(?![a-z])", around[1]),
    )
    return any(x and x[1] not in SPELLED and x[1] not in SAID for x in (before, after))


def _capitals(m: re.Match[str]) -> str | None:
    """FBI -> F B I; with a plural's or possessive's s."""
    word, s = m[1], m[2] or ""
    if word in OWN:
        return OWN[word] + s
    if word in SAID or word in ("I", "A"):
        return None
    if word in WORDS and not (word == "US" and not _shouted(m)):
        return None
    spelled = word in SPELLED or word == "US" or len(word) <= 3 or (len(word) <= 5 and not set(word) & VOWELS)
    if not spelled or (word not in SPELLED and _shouted(m)):
        return None
    return " ".join(word) + (s.replace("'", "") if s == "s" else s)


def _dotted(m: re.Match[str]) -> str:
    letters = " ".join(re.findall(r"[A-Za-z]", m[0]))
    return letters + stop_after(m)


WORD_SIZE = 40  # characters: what is longer is no name
WORD_BEFORE = re.compile(r"[^\s(\[\"]+(?= ?\Z)")
OPENERS = frozenset(
    (
        "A An And As At But By For From He Her Here His How I If In It Its My No Not Now On Or Our She So That The Then "
        "There These They This Those To Was We What When Where Which Who Why Will With Yes You Your"
    ).split()
)


def _initial(m: re.Match[str]) -> str | None:
    """Not the end of a sentence: a name stands before it, or nothing does, and no usual first word follows."""
    before = WORD_BEFORE.search(m.string, max(m.start() - WORD_SIZE, 0), m.start())
    word, after = before[0] if before else "", m.string[m.end() + 1 : m.end() + WORD_SIZE].split(maxsplit=1)[0]
    named = (
        not word
        or word in ("and", "by", "with", "from", "of", "or")
        or word[-1] in ".!?"
        or (len(word) > 1 and word[0].isupper())
    )
    return m[1] if named and after.strip(",.!?'") not in OPENERS else None


def _mixed(m: re.Match[str]) -> str:
    """MP3 -> M P three, H2O -> H two O, A4 -> A four."""
    parts = re.findall(r"[A-Za-z]+|\d+", m[0])
    spoken = [
        part if part.isalpha() and (part in SAID or (len(part) > 2 and not part.isupper())) else " ".join(part.upper()) if part.isalpha()
        else digits(part) if len(part) > 3 or part[0] == "0" else number(part)
        for part in parts
    ]  # fmt: skip
    return " ".join(spoken)


MIXED: tuple[Rule, ...] = (
    rule("letters with an ampersand", r"(?<![\w&])([A-Z]{1,3})&([A-Z]{1,3})(s?)(?![\w&])", lambda m: f"{' '.join(m[1])} and {' '.join(m[2])}" + ("'s" if m[3] else ""), ("AT&T", "A T and T"), ("the Q&A", "the Q and A")),
    rule("letters with a decimal", r"(?<![\w.'])([A-Z]{1,4})-?(\d{1,3}\.\d{1,2})(?![\w.]\w|\w)", lambda m: f"{' '.join(m[1])} {number(m[2])}", ("PM2.5", "P M two point five"), ("GPT-4.5", "G P T four point five")),
    rule("letters and digits", r"(?<![\w.'])(?:[A-Z]{1,4}-?\d{1,4}(?:[A-Za-z]{1,2})?|\d{1,3}[A-Z]{1,2}|[A-Z]\d[A-Z]\d?|[A-Z]{1,5}-\d{1,4}|mp[34])(?![\w'])", _mixed,
         ("an MP3 file", "an M P three file"), ("R2D2", "R two D two"), ("in 3D", "in three D"), ("Apt. 4B", "Apartment four B"), ("COVID-19", "COVID nineteen"), ("A4 paper", "A four paper")),
)  # fmt: skip
LETTERS: tuple[Rule, ...] = (
    rule("letters with full stops", r"(?<![\w.])[A-Z]\.(?: ?[A-Z]\.){1,7}(?!\w)|(?<![\w.])(?:[A-Za-z]\.){2,7}(?!\w)", _dotted,
         ("the U.S. army", "the U S army"), ("J. R. R. Tolkien", "J R R Tolkien"), ("born in the U.S.A.", "born in the U S A.")),
    rule("initial of a name", r"(?<![\w.'])([A-HJ-Z])\.(?= [A-Z][a-z])", _initial, ("Mary J. Blige", "Mary J Blige"), ("It is plan B. We go.", "It is plan B. We go.")),
    rule("initial before a small letter", r"(?<![\w.'])([A-HJ-Z])\.(?= [a-z])", r"\1", ("Mr. T. and I", "Mister T and I")),
)  # fmt: skip
RULES: tuple[Rule, ...] = (
    rule("initialism", r"(?<![\w'])([A-Z]{2,5})('?s)?(?![\w'])", _capitals,
         ("the FBI", "the F B I"), ("NASA said", "NASA said"), ("two CEOs", "two C E Os"), ("the BBC's news", "the B B C's news"),
         ("STOP THAT NOW", "STOP THAT NOW")),
)  # fmt: skip
