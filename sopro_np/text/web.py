"""What the web brought into texts: addresses, tags, file names, versions, identifiers of programs."""

from __future__ import annotations

import re

from sopro_np.text.rule import Rule, rule
from sopro_np.text.spell import digits

SCHEMES = r"(?:https?|ftps?|wss?|file|ssh|git)://"
ENDINGS = frozenset(
    (
        "com org net edu gov mil int info biz io ai dev app co uk us de fr ca au eu ch at nl jp ru br in it "
        "es se no fi dk pl tv me ly gg xyz"
    ).split()
)
SAID = frozenset(("com org net gov info biz dev app co mil int gg ly me").split())  # others are spelled
FILES = {
    "py": "P Y", "txt": "T X T", "pdf": "P D F", "png": "P N G", "jpg": "J P G", "jpeg": "jpeg", "gif": "gif",
    "doc": "doc", "docx": "doc X", "xls": "X L S", "xlsx": "X L S X", "csv": "C S V", "json": "jason", "md": "M D",
    "html": "H T M L", "css": "C S S", "js": "J S", "ts": "T S", "c": "C", "h": "H", "cpp": "C P P", "rs": "R S",
    "go": "go", "sh": "S H", "zip": "zip", "gz": "G Z", "tar": "tar", "exe": "exe", "wav": "wave", "mp3": "M P three",
    "mp4": "M P four", "yml": "yammel", "yaml": "yammel", "toml": "tommel", "xml": "X M L", "log": "log", "ini": "ini",
    "so": "S O", "dll": "D L L", "java": "java", "rb": "R B", "ppt": "P P T", "pptx": "P P T X", "cfg": "C F G",
}  # fmt: skip


def _label(text: str) -> str:
    """A part of an address: letters stay, digits one by one, other signs by name."""
    text = re.sub(r"\d+", lambda m: f" {digits(m[0])} ", text)
    for sign, name in (("-", "dash"), ("_", "underscore"), ("+", "plus"), ("%", "percent"), (".", "dot")):
        text = text.replace(sign, f" {name} ")
    return " ".join(re.sub(r"[^A-Za-z ]", " ", text).split())


def _host(text: str) -> str:
    labels = text.lower().split(".")
    spoken = [_label(label) for label in labels]
    for i, label in enumerate(labels):
        if i == 0 and label == "www":
            spoken[i] = "W W W"
        elif (i and i == len(labels) - 1 and label not in SAID) or (
            0 < len(label) < 3 and label not in SAID | {"my", "go"}
        ):
            spoken[i] = " ".join(label.upper()) if label.isalpha() else spoken[i]
    return " dot ".join(filter(None, spoken))


def _url(match: re.Match[str]) -> str | None:
    """The host, and the path if it is short."""
    scheme, rest = match[1], match[2]
    stripped = rest.rstrip(".,;:!?)'\"]>*")
    tail = rest[len(stripped) :]
    host, _slash, path = stripped.partition("/")
    host, _, port = host.rpartition("@")[2].partition(":")
    if not scheme and not (host.startswith("www.") or host.rpartition(".")[2].lower() in ENDINGS):
        return None
    path = re.split(r"[?#]", path)[0].strip("/")
    host = re.sub(r"(?i)^www\.", "", host)
    return _url_parts(host, port, path if len(path) <= 24 else "") + tail


def _url_parts(host: str, port: str, path: str) -> str:
    spoken = _host(host) or "a link"
    if port.isdigit():
        spoken += f" colon {digits(port)}"
    return " slash ".join([spoken, *filter(None, map(_label, path.split("/")))])


def _mail(match: re.Match[str]) -> str:
    return f"{_label(match[1])} at {_host(match[2])}"


def _words(name: str) -> str:
    """snake_case and camelCase apart."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.replace("_", " "))
    return " ".join(re.sub(r"(?<=[A-Za-z])(?=\d)", " ", name).split())


def _file(match: re.Match[str]) -> str | None:
    ending = FILES.get(match[2].lower())
    if not ending or match[1].isdigit() or (len(match[1]) == len(match[2]) == 1 and match[0][0].isupper()):
        return None  # D.C.
    if re.fullmatch(r"(?:[A-Z]\.){1,5}[A-Z]", match[0]):
        return None  # U.S.C.
    path = [_words(part).replace("-", " ").replace(".", " dot ") for part in match[1].split("/")]
    return f"{' slash '.join(path).strip()} dot {ending}"


def _attributes(match: re.Match[str]) -> str | None:
    name = match[1] or match[3]
    if (
        not match[2]
        and match[1]
        and name.partition(".")[0].lower() in ("etc", "vs", "dr", "mr", "mrs", "ms", "approx", "ph")
    ):
        return None  # a blank is missing
    return " dot ".join(map(_words, name.split(".")))


def _version(match: re.Match[str]) -> str:
    word = "" if match[1][0] not in "vV" or len(match[1].strip()) > 2 else "version "
    word = word or match[1].rstrip(" ") + " "
    return word + " point ".join(_whole(part) for part in match[2].split(".")) + (f" {match[3]}" if match[3] else "")


def _whole(text: str) -> str:
    from sopro_np.text.spell import number

    return digits(text) if len(text) > 1 and text[0] == "0" else number(text)


def _prerelease(match: re.Match[str]) -> str:
    stage = match[2] + (f" {' point '.join(map(_whole, match[3].lstrip('.').split('.')))}" if match[3] else "")
    return (
        f"{' point '.join(map(_whole, match[1].split('.')))} {'R C' + stage[2:] if stage.startswith('rc') else stage}"
    )


def _continental(m: re.Match[str]) -> str:
    """Full stops between thousands, a comma before decimals -> as English has it."""
    if m[6]:
        return m[6].strip().replace(" ", ",")  # € 1 000
    whole, decimals = m[1] or m[3] or m[4] or m[7], m[2] or m[5] or m[8]
    return whole.replace(".", ",") + (f".{decimals}" if decimals else "")


def _dotted(match: re.Match[str]) -> str:
    say = _whole if match[0].count(".") == 2 else digits
    return (" point " if match[0].count(".") == 2 else " dot ").join(say(part) for part in match[0].split("."))


RULES: tuple[Rule, ...] = (
    rule(
        "e-mail address",
        r"(?<![\w.+%-])([A-Za-z0-9._+%-]{1,64})@((?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24})(?!\w)",
        _mail,
        ("Mail jo.doe@example.com.", "Mail jo dot doe at example dot com."),
        ("a_b1@x-y.de", "a underscore b one at x dash y dot D E"),
    ),
    rule(
        "web address",
        rf"(?i)(?<![\w@./])({SCHEMES}|(?=www\.))([^\s<>\"]{{1,2000}})",
        _url,
        ("See https://www.example.com/docs?id=3.", "See example dot com slash docs."),
        ("https://a.example.org/very/long/path/of/a/page/index.html", "A dot example dot org"),
        ("www.nasa.gov", "nasa dot gov"),
    ),
    rule(
        "host name",
        r"(?<![\w@./-])()((?:[a-z0-9][a-z0-9-]{0,62}\.){1,4}[a-z]{2,4}(?:/[^\s<>\"]{0,200})?)(?![\w-])",
        _url,
        ("Try example.com today.", "Try example dot com today."),
        ("bbc.co.uk/news", "bbc dot co dot U K slash news"),
    ),
    rule(
        "host name with capitals",
        r"(?<![\w@./-])([A-Z][A-Za-z0-9-]{0,62})\.(com|org|net|edu|gov|io|ai|app|tv|NET|COM)(?![\w-]|\.\w)",
        lambda m: f"{m[1]} dot {m[2].lower() if m[2].lower() in SAID else ' '.join(m[2].upper())}",
        ("Amazon.com and X.com", "Amazon dot com and X dot com"),
        ("ASP.NET Core", "A S P dot net Core"),
    ),
    rule(
        "host and port",
        r"(?<![\w@./-])(localhost|\d{1,3}(?:\.\d{1,3}){3}):(\d{2,5})((?:/[\w.-]{0,40}){0,5})(?![\w:])",
        lambda m: _url_parts(m[1], m[2], m[3]),
        ("localhost:3000", "localhost colon three zero zero zero"),
    ),
    rule(
        "Windows path",
        r"(?<!\w)([A-Z]):\\((?:[\w.-]{1,60}\\?){0,12})",
        lambda m: " backslash ".join([f"{m[1]} colon", *map(_words, filter(None, m[2].split("\\")))]),
        ("in C:\\Users\\tom", "in C colon backslash Users backslash tom"),
    ),
    rule(
        "path from a folder",
        r"(?<![^\s=(\"':])(\.{1,2}|~)?/(?=[A-Za-z_])",
        lambda m: {"": "", "~": "tilde ", ".": "dot ", "..": "dot dot "}[m[1] or ""] + "slash ",
        ("run ./configure", "run dot slash configure"),
        ("in /etc", "in slash etc"),
    ),
    rule(
        "identifier in hex",
        r"(?<![\w-])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![\w-])",
        lambda m: ", ".join(" ".join(digits(c) or c.upper() for c in part) for part in m[0].split("-")),
        (
            "10000000-0000-4000-8000-00000000000f",
            "one zero zero zero zero zero zero zero, zero zero zero zero, four zero zero zero, "
            "eight zero zero zero, zero zero zero zero zero zero zero zero zero zero zero F",
        ),
    ),
    rule(
        "wireless standard",
        r"(?<![\w.])802\.(\d{1,2})([a-z]{1,2})?(?![\w])",
        lambda m: f"eight oh two dot {_whole(m[1])}" + (f" {' '.join(m[2].upper())}" if m[2] else ""),
        ("802.11ax", "eight oh two dot eleven A X"),
    ),
    rule(
        "number of the continent",
        r"(?<![\w.,])(\d{1,3}(?:\.\d{3}){1,4}),(\d{1,2})(?!\d|[.,]\d)|(?<![\w.,])([1-9]\d{0,2}\.\d{3}\.\d{3})(?![\w]|[.,]\d)|"
        r"(?<=[$€£])( ?\d{1,4}),(\d{1,2})(?!\d|[.,]\d)|(?<=[$€£])( ?\d{1,3}(?: \d{3}){1,4})(?!\d| \d)|(?<![\w.,])(\d{1,4}),(\d{1,2})(?= ?(?:[€£]|(?:kg|g|km|m|cm|mm|l|L|ml|kWh|EUR)\b))",
        _continental,
        ("€1.234,56", "one thousand two hundred thirty four euros and fifty six cents"),
        ("1,5 kg", "one point five kilograms"),
        ("1.000.000 people", "one million people"),
    ),
    rule(
        "hash of a commit",
        r"(?<![\w.])(?=\w{0,39}[0-9])(?=\w{0,39}[a-f])(?!\d+e\d+\b)[0-9a-f]{6,40}(?!\w)",
        lambda m: " ".join(digits(c) or c.upper() for c in m[0]) if re.search(r"\d\D+\d|\D\d+\D", m[0]) else None,
        ("Commit 3fa9c1d", "Commit three F A nine C one D"),
    ),
    rule(
        "option of a command",
        r"(?<=[\w'\"] )-([a-zA-Z])(?= [A-Za-z0-9./~]|[.,]?$)(?! [a-zA-Z] |.{0,20}[=^])",
        r"dash \1",
        ("pip install -r file", "pip install dash r file"),
    ),
    rule(
        "file name",
        r"(?<![\w@])([A-Za-z0-9_./-]{1,100})\.([A-Za-z][A-Za-z0-9]{0,4})(?!\w)",
        _file,
        ("Open main.py now.", "Open main dot P Y now."),
        ("src/read_me.md", "src slash read me dot M D"),
    ),
    rule(
        "network address",
        r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)",
        _dotted,
        ("Ping 10.0.0.1 first.", "Ping one zero dot zero dot zero dot one first."),
    ),
    rule(
        "version before its release",
        r"(?<![\w.])((?:\d{1,4}\.){1,3}\d{1,4})[-.]?(alpha|beta|rc|dev|pre)(\.?\d{1,3}(?:\.\d{1,3})?)?(?!\w)",
        _prerelease,
        ("in 1.0.0-beta.2", "in one point zero point zero beta two"),
        ("2.10.0-rc1", "two point ten point zero R C one"),
    ),
    rule(
        "any version",
        r"(?<![\w.])(\d{1,3}(?:\.\d{1,3})?)\.x\b",
        lambda m: " point ".join(_whole(part) for part in m[1].split(".")) + " point X",
        ("Node 20.x runs.", "Node twenty point X runs."),
    ),
    rule(
        "version",
        r"(?<![\w.])([vV] ?|[Vv]ersion |[Rr]elease )(\d{1,6}(?:\.\d{1,6}){0,4})(?:[-.]?(alpha|beta|rc|dev))?(?![\w])",
        _version,
        ("It is v1.5 now.", "It is version one point five now."),
        ("version 2.0.1", "version two point zero point one"),
    ),
    rule(
        "dotted version",
        r"(?<![\w.])(?!(?:19|20)\d\d\.\d\d\.\d\d\b)\d{1,4}\.\d{1,4}\.(?:\d{5,6}|\d{1,3})(?![\w.]*\d)(?=\s|[,;:!?)]|\.(?!\w)|$)",
        _dotted,
        ("Python 3.11.7 works.", "Python three point eleven point seven works."),
    ),
    rule(
        "number sign",
        r"(?<![\w&#])#(?:([A-Z]{1,3})-?)?(\d{1,9})(?:-(\d{1,9}))?(?!\w)",
        lambda m: f"number {m[1] + ' ' if m[1] else ''}" + (f"{digits(m[2])} dash {digits(m[3])}" if m[3] else m[2]),
        ("We are #1!", "We are number one!"),
        ("order #A-7", "order number A seven"),
        ("order #A12-56", "order number A one two dash five six"),
    ),
    rule(
        "hashtag",
        r"(?<![\w&#])#([A-Za-z_]\w{0,60})",
        lambda m: f"hashtag {_words(m[1])}",
        ("I love #BigDogs.", "I love hashtag Big Dogs."),
    ),
    rule(
        "handle",
        r"(?<![\w@.])@([A-Za-z_]\w{0,60})",
        lambda m: f"at {_words(m[1])}",
        ("Thanks @jo_doe!", "Thanks at jo doe!"),
    ),
    rule(
        "dotted name",
        r"(?<![\w.@/])([A-Za-z_]\w{1,40}(?:\.[a-z_]\w{1,40}){1,6})(\(\))?(?![\w@]|\.\w)|(?<![\w.@/])([A-Za-z_]\w{0,40}(?:\.[A-Za-z_]\w{0,40}){1,6})\(\)",
        _attributes,
        ("os.path.join works", "os dot path dot join works"),
        ("Call Array.prototype.map() here.", "Call Array dot prototype dot map here."),
    ),
    rule(
        "call",
        r"\b([A-Za-z_]\w{0,60})\(\)",
        lambda m: _words(m[1]),
        ("Call readFile() first.", "Call read File first."),
    ),
    rule(
        "identifier",
        r"(?<![\w'])[A-Za-z0-9]{0,40}(?:_[A-Za-z0-9]{1,40}){1,12}_{0,2}(?!\w)|\b(?!mmHg\b)[a-z]{2,30}(?:[A-Z][a-z]{1,30}){1,6}\b",
        lambda m: _words(m[0]),
        ("max_frames is fine", "max frames is fine"),
        ("the userName here", "the user Name here"),
    ),
)
