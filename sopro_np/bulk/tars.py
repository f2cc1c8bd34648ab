"""WebDataset: utterances in tar archives, ID.wav, ID.txt and ID.json each, the same bytes for the same utterances."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from sopro_np.bulk.outputs import TARS
from sopro_np.bulk.records import Record
from sopro_np.errors import BulkError
from sopro_np.files import replacing


def write_tars(folder: Path, records: Sequence[Record], count: int) -> list[Path]:
    """tars/000000.tar and on, with `count` utterances each, in order; archives of before that are none of them go.

    An id with a dot stands in them with _ instead: readers take a name up to its first dot. BulkError if the folder
    cannot be written, or two names would then be the same.
    """
    names = [record["id"].replace(".", "_") for record in records]
    if len(set(names)) < len(names):
        raise BulkError("ids that differ only in . and _ cannot stand in one WebDataset: rename them")
    place = folder / TARS
    written = []
    try:
        place.mkdir(exist_ok=True)
        for first in range(0, len(records), count):
            path = place / f"{first // count:06}.tar"
            some = list(zip(names[first : first + count], records[first : first + count], strict=True))
            with replacing(path, BulkError) as file:
                _write(file, folder, some)
            written.append(path)
        for path in set(place.glob("*.tar")) - set(written):
            path.unlink()
    except OSError as error:
        raise BulkError(f"{place}: cannot be written ({error.strerror or error})") from None
    return written


def _write(file: BinaryIO, folder: Path, records: Sequence[tuple[str, Record]]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, record in records:
            audio = folder / record["audio_filepath"]
            about = json.dumps(record, ensure_ascii=False, sort_keys=True).encode()
            for ending, data in ((audio.suffix, None), (".txt", record["text"].encode()), (".json", about)):
                info = tarfile.TarInfo(name + ending)  # no time, no owner: nothing but the data counts
                info.size, info.mode = audio.stat().st_size if data is None else len(data), 0o644
                with audio.open("rb") if data is None else io.BytesIO(data) as source:
                    tar.addfile(info, source)
