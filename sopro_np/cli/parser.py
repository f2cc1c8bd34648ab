"""Commands and options of `sopro-np`, with their help: nothing else is loaded to show it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from sopro_np.cli import wyoming
from sopro_np.cli.convert import RECIPES, add_arguments
from sopro_np.cli.values import counts, frames, lexicon
from sopro_np.options import Options
from sopro_np.precision import MODES
from sopro_np.version import __version__

DEFAULT_MODEL = "a file, a downloaded model, or demo (default: SOPRO_NP_MODEL, else demo, the embedded one)"
OWN = "SOPRO_NP_VOICES, else ~/.local/share/sopro_np/voices"
FORMATS = ("wav", "flac", "ogg", "opus", "mp3", "raw")


class Parser(argparse.ArgumentParser):
    """argparse's, with a word about quotes where a text was split."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: ") and not message.split(": ")[1].startswith("-"):
            message += ' (a text of several words belongs in quotes: sopro-np say "Hello there.")'
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """All commands and options. Words may be joined by - or _ (upstream's spelling)."""
    parser = Parser(
        prog="sopro-np",
        description="Sopro TTS without a deep-learning framework.",
        epilog='examples:\n  sopro-np say "Hello." --play\n  sopro-np help say\n',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sopro-np {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    say = _command(
        commands, "say", "speak a text into a file, a pipe or the loudspeaker",
        'sopro-np say "Good morning." -o morning.mp3', "echo Hello. | sopro-np say --lines --stream --play",
    )  # fmt: skip
    say.add_argument("text", nargs="*", metavar="TEXT|-", help="what to say, in quotes; - reads standard input")
    say.add_argument("--file", metavar="FILE", help="say what is in this text file (UTF-8)")
    each = say.add_mutually_exclusive_group()
    each.add_argument("--lines", dest="each", action="store_const", const="lines",
                      help="speak each line of standard input (or --file) once it is there")  # fmt: skip
    each.add_argument("--sentences", dest="each", action="store_const", const="sentences",
                      help="the same for each sentence, wherever lines end")  # fmt: skip
    who = say.add_mutually_exclusive_group()
    who.add_argument("--ref", "-r", "--ref-audio", metavar="FILE", help="recording of the voice to speak in")
    who.add_argument("--voice", "-v", metavar="FILE|NAME", help="saved voice, or an embedded one's name")
    _add_model(say)
    say.add_argument("-o", "--out", metavar="FILE|-", help="- is stdout (default: sopro.wav, or the format's ending)")
    say.add_argument("--format", choices=FORMATS, help="default: by the ending of FILE, else wav")
    say.add_argument("--raw", action="store_true", help="16-bit little-endian samples without a header; --format raw")
    say.add_argument("--sample-rate", type=int, metavar="HZ", help="default: the model's own, 24000 for published ones")
    say.add_argument("--speed", type=float, metavar="F", default=1.0,
                     help="0.5 to 2 at the same pitch, not with --stream (extra speed; default: 1.0)")  # fmt: skip
    loud = say.add_mutually_exclusive_group()
    loud.add_argument("--gain", type=float, metavar="DB", help="louder or softer by so much (default: 0)")
    loud.add_argument("--normalise-loudness", "--normalize-loudness", type=float, metavar="LUFS",
                      help="as loud as that by ITU-R BS.1770, e.g. -16; not with --stream")  # fmt: skip
    say.add_argument("--play", action="store_true", help="through the loudspeaker; without -o no file is written")
    say.add_argument("--stream", action="store_true", help="write into a pipe while audio is generated")
    say.add_argument("--srt", metavar="FILE|-", help="also write subtitles: when each sentence is said")
    say.add_argument("--vtt", metavar="FILE|-", help="the same as WebVTT")
    say.add_argument("--json", metavar="FILE|-", help="the same as JSON, with seeds, tries and what was found")
    say.add_argument("--strict-check", action="store_true", help="exit code 1 if the speech may be wrong")
    say.add_argument("--quiet", "-q", action="store_true", help="no progress, no notes")
    _add_options(say)

    batch = _command(
        commands, "batch", "speak many lines into a folder; called again, it goes on where it was ended",
        "sopro-np batch lines.jsonl -o folder", "sopro-np batch metadata.csv -o folder --shard 0/4 --format flac",
    )  # fmt: skip
    batch.add_argument(
        "lines",
        metavar="LINES|-",
        help='a file: JSONL {"id", "text", "voice"?, "seed"?}, LJSpeech id|text, plain lines; - is standard input',
    )
    batch.add_argument(
        "-o", "--out", metavar="DIR", required=True, help="for wavs/, manifest.jsonl, metadata.csv, errors.jsonl"
    )
    batch.add_argument("--input", choices=("jsonl", "ljspeech", "plain"), help="what LINES is (default: by a look)")
    batch.add_argument("--format", choices=("wav", "flac"), default="wav", help="of the audio (default: wav)")
    whose = batch.add_mutually_exclusive_group()
    whose.add_argument("--ref", "-r", metavar="FILE", help="recording of the voice of lines that name none")
    whose.add_argument("--voice", "-v", metavar="FILE|NAME", help="saved voice, or an embedded one's name, for them")
    batch.add_argument("--shard", metavar="I/N", help="only this share of the lines, I from 0; then once without it")
    batch.add_argument("--scheduler", metavar="ADDRESS", help="on the workers of a Dask cluster (extra `cluster`)")
    batch.add_argument("--tars", type=int, metavar="N", help="also WebDataset archives, N utterances in each")
    batch.add_argument("--width", type=int, default=16, metavar="N", help="utterances at once (default: 16)")
    batch.add_argument("--quiet", "-q", action="store_true", help="no progress, no notes")
    _add_model(batch)
    _add_options(batch)

    text = _command(
        commands, "text", "show what will be said instead of a text, and by which rules",
        'sopro-np text "It costs $5."', "sopro-np text --file letter.txt --day-first --json",
    )  # fmt: skip
    text.add_argument("text", nargs="*", metavar="TEXT|-", help="what to say, in quotes; - reads standard input")
    text.add_argument("--file", metavar="FILE", help="what is in this text file (UTF-8)")
    text.add_argument("--day-first", action="store_true", help="1/2/2026 is the first of February")
    text.add_argument("--lexicon", metavar="FILE", help="a word and its respelling a line, with a tab or = between")
    text.add_argument("--lenient", action="store_true", help="leave out what cannot be said")
    text.add_argument("--json", action="store_true", help="with the spans in the text given")

    voice = _command(
        commands, "voice", "make a voice from a recording",
        "sopro-np voice me.wav --name me", "sopro-np voice me.wav -o me.voice.safetensors",
    )  # fmt: skip
    voice.add_argument("ref", metavar="REF", help="recording of a few seconds of clean speech")
    where = voice.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--out", metavar="FILE", help="e.g. me.voice.safetensors")
    where.add_argument("--name", metavar="NAME", help="keep it in the voices folder, for --voice NAME")
    voice.add_argument("--force", action="store_true", help="replace a voice that has this --name")
    voice.add_argument(
        "--seconds", type=float, metavar="S", help="use at most so much from the middle (default: the model's)"
    )
    voice.add_argument("--quiet", "-q", action="store_true", help="no notes")
    _add_model(voice)

    voices = _command(
        commands, "voices", "names of the voices that fit a model, its own first",
        "sopro-np voices", "sopro-np voices --model v1.5 --json",
    )  # fmt: skip
    voices.add_argument("--model", "-m", metavar="FILE|NAME", help=DEFAULT_MODEL)
    voices.add_argument("--json", action="store_true", help="with their files, as JSON")

    info = _command(
        commands, "info", "what is in a model or voice file",
        "sopro-np info", "sopro-np info me.voice.safetensors --json",
    )  # fmt: skip
    info.add_argument("file", nargs="?", metavar="FILE|NAME", help=DEFAULT_MODEL)
    info.add_argument("--json", action="store_true", help="as JSON, to stdout")
    info.add_argument("--memory", action="store_true", help="also speak a little, and say what memory that took")

    doctor = _command(
        commands, "doctor", "what this machine offers, and what is missing",
        "sopro-np doctor", "sopro-np doctor --json",
    )  # fmt: skip
    doctor.add_argument("--json", action="store_true", help="as JSON, to stdout")

    download = _command(
        commands, "download", "fetch a published model and convert it",
        "sopro-np download v1.5", "sopro-np download v1 --recipe int4",
    )  # fmt: skip
    download.add_argument("generation", choices=("v1", "v1.5"), help="which of the published models")
    download.add_argument("--recipe", default="int8", metavar="NAME|FILE", help=f"{RECIPES} or JSON (default: int8)")
    download.add_argument(
        "--revision", metavar="REV", help="of the Sopro repository (default: the newest of the generation)"
    )
    download.add_argument("--mimi-revision", metavar="REV", help="of the codec's repository (default: the newest)")
    download.add_argument("--accept-changes", action="store_true", help="take a source that changed since last time")
    download.add_argument("--drop", action="append", default=[], metavar="PATTERN", help="tensors to leave out")
    download.add_argument("--allow-unknown-config", action="store_true", help="take them with --strict, too")
    download.add_argument("--strict", action="store_true", help="refuse what upstream's own loaders pass over")
    download.add_argument("--bos", type=int, metavar="ID", help="id before the text")
    download.add_argument("--eos", type=int, metavar="ID", help="id after the text")

    bench = _command(
        commands, "bench", "how fast is this machine?",
        "sopro-np bench", "sopro-np bench --frames 50 --runs 1 --json",
    )  # fmt: skip
    _add_model(bench)
    bench.add_argument(
        "--frames", type=int, default=100, metavar="N", help="frames to generate, 12.5 a second (default: 100)"
    )
    bench.add_argument("--runs", type=int, default=3, metavar="N", help="the median of so many (default: 3)")
    bench.add_argument("--precision", choices=MODES, help="as of say; with the share of rows that had 16 bits")
    bench.add_argument("--json", action="store_true", help="all figures, to stdout")
    bench.add_argument("--compare", metavar="OLD.json", help="also beside what --json printed earlier, as ratios")
    bench.add_argument("--batch", type=counts, metavar="N,N", help="only this: utterances at once, e.g. 1,4,16")
    bench.add_argument("--perf", action="store_true", help="also count cache misses with `perf`, where it can")
    bench.add_argument("--share", action="store_true", help="a table row for docs/SPEED.md, to stdout")

    serve = _command(
        commands, "serve", "speak over HTTP, as to OpenAI's clients, and Wyoming (needs the extra server)",
        "sopro-np serve", "sopro-np serve --host 0.0.0.0 --api-key-file keys.txt --voices voices --memory 500",
    )  # fmt: skip
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="listen on it (default: 127.0.0.1, this machine only)"
    )
    serve.add_argument("--port", type=int, default=8000, metavar="N", help="0 takes a free one (default: 8000)")
    _add_model(serve)
    serve.add_argument("--voices", metavar="DIR", help=f"voice files and recordings in it are voices (default: {OWN})")
    serve.add_argument("--voice", "-v", metavar="NAME", help="for requests that name none (default: the model's own)")
    serve.add_argument("--alias", action="append", default=[], metavar="NAME=VOICE", help="another name of a voice")
    serve.add_argument("--seed", type=int, metavar="N", help="for requests without one (default: drawn for each)")
    serve.add_argument("--lenient", action="store_true", help="leave out what cannot be said, instead of an error")
    serve.add_argument("--lexicon", type=lexicon, metavar="FILE", help="how words are read: a line each, with a tab")
    serve.add_argument("--precision", choices=MODES, help="for requests without one (default: the model's own)")
    serve.add_argument("--queue", type=int, default=64, metavar="N", help="requests that may wait (default: 64)")
    serve.add_argument("--memory", type=int, metavar="MB", help="for all requests, by estimate (default: no bound)")
    serve.add_argument("--width", type=int, default=16, metavar="N", help="requests spoken at once (default: 16)")
    serve.add_argument("--characters", type=int, default=4096, metavar="N", help="of one text at most (default: 4096)")
    serve.add_argument("--connections", type=int, default=256, metavar="N", help="at once at most (default: 256)")
    serve.add_argument("--api-key-file", metavar="FILE", help="a key a line; HTTP requests then need one of them")
    serve.add_argument("--i-know", action="store_true", help="let others in without a key; Wyoming has none")
    serve.add_argument("--cors", action="append", default=[], metavar="ORIGIN", help="its web pages may use the server")
    serve.add_argument("--ffmpeg", action="store_true", help="decode uploaded m4a, webm ... with it, if installed")
    serve.add_argument("--drain", type=int, default=30, metavar="S", help="seconds to finish in (default: 30)")
    serve.add_argument("--log", choices=("quiet", "requests", "text"), default="quiet",
                       help="a line for each request, or also what was said (default: quiet)")  # fmt: skip
    wyoming.add_arguments(serve)

    evaluate = _command(
        commands, "eval", "how well does a model speak, and how far is it from another one?",
        "sopro-np eval --count 5", "sopro-np eval v1.5 --ref me.wav --html report.html",
    )  # fmt: skip
    evaluate.add_argument("model", nargs="?", metavar="FILE|NAME", help=DEFAULT_MODEL)
    evaluate.add_argument("--against", metavar="FILE|NAME", help="the model to compare with, e.g. the same one in fp32")
    evaluate.add_argument("--ref", "-r", action="append", default=[], metavar="FILE", help="recordings of voices")
    evaluate.add_argument("--voice", "-v", action="append", default=[], metavar="FILE|NAME", help="saved voices")
    evaluate.add_argument("--texts", metavar="FILE", help="a text a line, a tab, a recording of it; default: built in")
    evaluate.add_argument("--count", type=int, metavar="N", help="only the first N texts (default: 60)")
    evaluate.add_argument("--seeds", type=int, default=3, metavar="N", help="utterances of every text (default: 3)")
    evaluate.add_argument("--only", choices=("fidelity", "quality"), help="leave the other question out")
    evaluate.add_argument("--whisper", action="append", default=[], metavar="DIR",
                          help="folders of Whisper (CTranslate2): recognisers beside PocketSphinx")  # fmt: skip
    evaluate.add_argument("--json", metavar="FILE|-", help="all figures")
    evaluate.add_argument("--html", metavar="FILE", help="a page with tables, spectrograms and players")
    evaluate.add_argument("--listen", metavar="FILE", help="a page for a blind AB, ABX and MOS test")
    evaluate.add_argument("--webmushra", metavar="DIR", help="the same stimuli for webMUSHRA")
    evaluate.add_argument("--ratings", nargs="+", metavar="FILE", help="only sum up what listeners saved as JSON")
    evaluate.add_argument("--examples", type=int, default=8, metavar="N", help="texts heard on pages (default: 8)")
    evaluate.add_argument("--quiet", "-q", action="store_true", help="no progress")
    _add_computing(evaluate)
    _add_options(evaluate)

    convert = _command(
        commands, "convert", "published checkpoints on disk -> one model file",
        "sopro-np convert --sopro model.safetensors --mimi mimi --tokenizer tokenizer -o sopro.safetensors",
        "sopro-np convert --from sopro.safetensors --recipe int4 --calibrate 16 -o sopro-int4.safetensors",
    )  # fmt: skip
    add_arguments(convert)

    completion = _command(
        commands, "completion", "a script that completes commands and options in your shell (needs shtab)",
        "sopro-np completion bash > ~/.local/share/bash-completion/completions/sopro-np",
        "sopro-np completion zsh > ~/.zfunc/_sopro-np",
    )  # fmt: skip
    completion.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"), help="the shell it is for")

    helping = _command(commands, "help", "what a command does and takes", "sopro-np help", "sopro-np help say")
    helping.add_argument("topic", nargs="?", metavar="COMMAND", help="one of the above (default: all of them)")
    return parser


def _command(commands: Any, name: str, help: str, *examples: str) -> argparse.ArgumentParser:
    """A command with its examples."""
    return commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog="examples:\n" + "".join(f"  {example}\n" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", "-m", metavar="FILE|NAME", help=DEFAULT_MODEL)
    _add_computing(parser)


def _add_computing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, metavar="N", help="at most so many for large products (default: all)")
    parser.add_argument(
        "--ops",
        choices=("native", "numpy"),
        help="implementation of the arithmetic (default: native where there is one)",
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    """The fields of sopro_np.options.Options; what is not given keeps its default there."""
    group = parser.add_argument_group("generation")
    kinds: dict[str, Callable[[str], Any]] = {"F": float, "N": int, "N|all": frames, "FILE": lexicon}
    for option in fields(Options):
        letter, text = option.metadata["letter"], option.metadata["help"]
        name = option.name.replace("_", "-")
        if letter in ("yes", "no"):
            flag = f"--no-{name}" if letter == "no" else f"--{name}"
            more: dict[str, Any] = {"action": "store_const", "const": letter == "yes", "dest": option.name}
        else:
            flag, more = f"--{name}", {"type": kinds.get(letter, str), "metavar": letter}
            text += f" (default: {option.default})" if option.default is not None else ""
        group.add_argument(flag, default=argparse.SUPPRESS, help=text, **more)


def normalise(argv: Sequence[str]) -> list[str]:
    """--top_p=0.9 -> --top-p=0.9; values and texts are left alone."""
    out: list[str] = []
    for word in argv:
        name, equals, value = word.partition("=")
        out.append(name.replace("_", "-") + equals + value if name.startswith("--") and " " not in name else word)
        if word == "--":
            return [*out, *argv[len(out) :]]
    return out
