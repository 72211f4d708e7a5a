"""Downloads of named sources: the only code that touches the network."""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from clgym.data.cards import DatasetInfo
from clgym.data.locate import differing, find_card
from clgym.data.root import data_root as root_of
from clgym.errors import BadSource, MissingData
from clgym.files import writing

__all__ = ["fetch", "unpack"]


def fetch(
    name: str, data_root: Path | None = None, progress: Callable[[str], None] = lambda line: None
) -> list[Path]:
    """Download a named source, and return what was added to the data root.

    Files arrive in a temporary folder, are compared with the published checksum and only then
    renamed: a broken download leaves nothing behind.

    Args:
        name: Name of a card.
        data_root: Data root; None means ``CLGYM_DATA``, else the user's data folder.
        progress: Receives progress in words.

    Raises:
        UnknownName: no such card.
        MissingData: it cannot be downloaded; the message says how to get it.
        BadSource: what arrived, or lies there already, is not what was published.
        BadOutput: the data root cannot be written.
    """
    card = find_card(name)
    if card.layout == "digits":
        progress("digits comes with scikit-learn: nothing to fetch")
        return []
    root = root_of(data_root)
    if not card.downloads:
        raise _by_hand(card, root, "no download that is open to everybody")
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as part:
            return _fetch(card, root, Path(part), progress)


def _fetch(
    card: DatasetInfo, root: Path, part: Path, progress: Callable[[str], None]
) -> list[Path]:
    arrived = []
    for url, known_hash in card.downloads:
        file = url.rsplit("/", 1)[-1]
        target = root / card.folders[0] / ("" if card.archived else file)
        if target.exists():
            _check_present(card, target)
            progress(f"{target} is there already")
            continue
        progress(f"getting {url}")
        _download(card, root, url, part / file, known_hash)
        if card.archived:
            progress(f"unpacking {file}")
            unpack(part / file, part / "tree")
            _whole(part / "tree" / card.folders[0], url)
        target.parent.mkdir(parents=True, exist_ok=True)
        (part / "tree" / card.folders[0] if card.archived else part / file).replace(target)
        arrived.append(target)
    return arrived


def _check_present(card: DatasetInfo, target: Path) -> None:
    files = [target] if target.is_file() else [p for p in target.iterdir() if p.is_file()]
    if (path := differing(card, files)) is not None:
        raise BadSource(
            expected=f"{path} as published",
            found="a different checksum",
            fix=f"Remove {target} and fetch again",
        )


def _download(card: DatasetInfo, root: Path, url: str, file: Path, known_hash: str) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # what it is about to get, `progress` has said
    bar: Any = pooch.HTTPDownloader(progressbar=True)  # Any: pooch's protocol has other names
    try:
        pooch.retrieve(url, known_hash, file.name, file.parent, downloader=bar)
    except requests.RequestException as error:
        raise _by_hand(card, root, f"no answer from {url} ({error})") from error
    except ValueError as error:  # another hash than the known one
        raise BadSource(
            expected=f"{file.name} with {known_hash}",
            found=f"something else at {url}, or a part of it",
            fix="Fetch again",
        ) from error


def _by_hand(card: DatasetInfo, root: Path, found: str) -> MissingData:
    place = root / card.folders[0]
    below = (
        "" if card.downloads else "/CLASS/*.jpg" if card.by_hash else "/{train,test}/CLASS/*.jpg"
    )
    return MissingData(
        expected=f"a download of {card.name}",
        found=found,
        fix=f"Get it from {card.origin} ({card.licence}) and put it at {place}{below}",
    )


def _whole(folder: Path, url: str) -> None:
    if not folder.is_dir():
        raise BadSource(
            expected=f"a folder {folder.name} in the archive", found="none", fix=f"See {url}"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive: files and folders only, none outside ``folder``.

    Raises:
        BadSource: it is truncated, or holds a link or a path that leads out; nothing that lies
            outside has been written.
    """
    home = folder.resolve()
    try:
        for name, file in _members(archive):
            target = (home / name).resolve()
            if not target.is_relative_to(home) or target == home:
                raise BadSource(
                    expected=f"paths inside {archive.name}",
                    found=f"{name!r}, which leads out of the folder",
                    fix="Do not use this archive",
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(file, out)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise BadSource(
            expected=f"{archive} to be a whole archive", found=str(error), fix="Fetch it again"
        ) from error


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The regular files of an archive; folders come into being with them."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                if not info.is_dir():
                    with bundle.open(info) as file:
                        yield info.filename, file
        return
    with tarfile.open(archive) as bundle:
        for member in bundle:
            content = bundle.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name, content
            elif not member.isdir():
                raise BadSource(
                    expected=f"files and folders only in {archive.name}",
                    found=f"a link or device {member.name!r}",
                    fix="Do not use this archive",
                )
