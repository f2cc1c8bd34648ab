"""`sopro-np serve`: a model behind HTTP, for the programs that already call such servers."""

from __future__ import annotations

import argparse
import logging
import re
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from sopro_np.cli import process, wyoming
from sopro_np.engine import open_model
from sopro_np.errors import UsageError
from sopro_np.files import file_name, voices_dir
from sopro_np.locate import find_model
from sopro_np.mimi.codec import SPEAKS_ONLY

LEVELS = {"quiet": logging.WARNING, "requests": logging.INFO, "text": logging.DEBUG}


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; 0 once all is drained."""
    try:
        import python_multipart  # noqa: F401  # all of the extra, before a model is read
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"serve needs the extra server ({error.name}): pip install starlette uvicorn python-multipart"
        ) from None
    from sopro_np.serve.auth import is_loopback, read_keys
    from sopro_np.serve.limits import Limits
    from sopro_np.serve.run import bind, run
    from sopro_np.serve.scheduler import Scheduler
    from sopro_np.serve.service import Service
    from sopro_np.serve.voices import SHOWN, UnknownVoice, VoiceShelf

    _check_numbers(args)
    keys = () if args.api_key_file is None else read_keys(args.api_key_file)
    if not keys and not args.i_know and not is_loopback(args.host) and not args.no_http:
        raise UsageError(
            f"--host {args.host} can be reached from other machines: give --api-key-file, or --i-know to let anybody in"
        )
    aliases = dict(_alias(text) for text in args.alias)
    cors = tuple(_origin(text) for text in args.cors)
    model = find_model(args.model)
    with ExitStack() as stack:  # a port that is taken is told before a model is read
        listening = None if args.no_http else stack.enter_context(bind(args.host, args.port))
        if (talking := wyoming.listen(args, _say)) is not None:
            stack.enter_context(talking)
        tts = stack.enter_context(open_model(model, args.threads, args.ops))
        if args.log != "text":
            process.hush()  # notes quote the text
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
        logging.getLogger("sopro_np.serve").setLevel(LEVELS[args.log])
        for noisy in ("uvicorn.error", "asyncio", "multipart", "python_multipart"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        shelf = VoiceShelf(tts, _folder(args.voices), args.voice, aliases, args.ffmpeg)
        if args.voice is not None:
            shelf.resolve(args.voice)  # or an error, now
        for name in aliases:
            try:
                shelf.resolve(name)
            except UnknownVoice as error:  # which may come to be
                _say(f"--alias {name}={aliases[name]}: {error}")
        if unheard := shelf.unheard():
            _say(f"no voices are {', '.join(unheard[:SHOWN])}, recordings in {shelf.folder}: {SPEAKS_ONLY}")
        memory = None if args.memory is None else args.memory << 20
        scheduler = Scheduler(tts, queue=args.queue, memory=memory, width=args.width)
        limits = Limits(characters=args.characters, connections=args.connections)
        given = {"lexicon": args.lexicon, "precision": args.precision}
        options = {"lenient": args.lenient} | {name: value for name, value in given.items() if value is not None}
        service = Service(tts, scheduler, shelf, limits, args.seed, keys, cors, options)
        speaks = f"speaks as {', '.join(shelf.names()) or 'nobody yet'}"
        both = (("wyoming", talking), ("http", listening))
        greeting = [f"{kind}://{_address(sock)} {speaks}" for kind, sock in both if sock is not None]
        run(service, listening, args.drain, wyoming.servers(args, service, talking), _say, greeting)
    return 0


def _address(listening: socket.socket) -> str:
    """What others may type: of all addresses (0.0.0.0) the one that the network knows."""
    from sopro_np.serve.announce import own_address

    host, port = listening.getsockname()[:2]
    with suppress(UsageError):  # no network, or only this machine
        host = own_address(host)
    return f"[{host}]:{port}/" if ":" in host else f"{host}:{port}/"


def _say(line: str) -> None:
    print(f"sopro-np serve: {line}", file=sys.stderr, flush=True)


def _folder(given: str | None) -> Path | None:
    """For voices: the one named, else the user's; None where there is no home."""
    if given is not None:
        folder = file_name(given, "--voices")
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--voices {given}: not a folder")
        if not folder.exists():
            _say(f"--voices {given}: not there yet; the first voice that is sent in makes it")
        return folder
    try:
        return voices_dir()
    except UsageError:
        return None


def _alias(text: str) -> tuple[str, str]:
    name, equals, voice = text.partition("=")
    if not (name and equals and voice):
        raise UsageError(f"--alias {text!r}: write NAME=VOICE, e.g. alloy=ross")
    return name, voice


def _origin(text: str) -> str:
    """As browsers send it: one that is written in another way would never be let in."""
    if text not in ("*", "null") and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]*", text):
        raise UsageError(f"--cors {text!r}: an origin is small letters without a path, as https://page.example, or *")
    return text


def _check_numbers(args: argparse.Namespace) -> None:
    bounds = {
        "port": (0, 65535),
        "wyoming_port": (0, 65535),
        "queue": (0, 10**6),
        "memory": (1, 1 << 30),
        "width": (1, 256),
        "characters": (1, 10**6),
        "connections": (1, 10**5),
        "seed": (0, 2**63 - 1),
        "drain": (0, 3600),
    }
    for name, (low, high) in bounds.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')} {value} must be a number from {low} to {high}")
