"""Downloads, from a server of our own in place of the network."""

import functools
import hashlib
import http.server
import io
import random
import tarfile
import threading
import zipfile
from dataclasses import replace

import pytest

from clgym.data.cards import CARDS
from clgym.data.fetch import fetch, unpack
from clgym.errors import BadSource, MissingData, UnknownName


def tar(path, members):
    with tarfile.open(path, "w:gz") as bundle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                bundle.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                bundle.addfile(info)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The URL under which the files of ``tmp_path`` are served."""
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


@pytest.fixture
def publish(tmp_path, monkeypatch, server):
    """Put files on the server and on a card; ``known`` overrides the published hash."""

    def put(name, files, known=None, **facts):
        downloads = []
        for path in files:
            digest = known or f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
            downloads.append((f"{server}/{path.name}", digest))
        card = replace(CARDS[name], downloads=tuple(downloads), **facts)
        monkeypatch.setitem(CARDS, name, card)
        return tmp_path / "root"

    return put


def test_files_arrive_where_the_reader_looks(tmp_path, publish):
    files = [tmp_path / name for name in CARDS["mnist"].checksums]
    for file in files:
        file.write_bytes(file.name.encode())
    md5s = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in files}
    root, lines = publish("mnist", files, checksums=md5s), []
    arrived = fetch("mnist", root, lines.append)
    assert arrived == [root / "MNIST" / "raw" / f.name for f in files]
    assert [p.read_bytes() for p in arrived] == [f.name.encode() for f in files]
    assert len(lines) == 4
    # A second call finds them there; a damaged one is named.
    assert fetch("mnist", root) == []
    arrived[0].write_bytes(b"other")
    with pytest.raises(BadSource, match=r"train-images.*Remove"):
        fetch("mnist", root)


def test_archive_is_unpacked(tmp_path, publish):
    archive = tmp_path / "cifar-100-python.tar.gz"
    tar(archive, {"cifar-100-python/train": b"a", "cifar-100-python/test": b"b"})
    root = publish("cifar100", [archive], checksums={})
    assert fetch("cifar100", root) == [root / "cifar-100-python"]
    assert (root / "cifar-100-python" / "train").read_bytes() == b"a"
    assert [p.name for p in root.iterdir()] == ["cifar-100-python"]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_truncated_download_leaves_nothing(tmp_path, publish, algorithm):
    archive = tmp_path / "cifar-100-python.tar.gz"
    tar(archive, {"cifar-100-python/train": b"a" * 1000})
    whole = hashlib.new(algorithm, archive.read_bytes()).hexdigest()
    archive.write_bytes(archive.read_bytes()[:-20])
    root = publish("cifar100", [archive], known=f"{algorithm}:{whole}")
    with pytest.raises(BadSource, match=rf"cifar-100-python\.tar\.gz with {algorithm}:{whole}"):
        fetch("cifar100", root)
    assert list(root.iterdir()) == []


def test_an_answer_that_breaks_off_is_no_answer(tmp_path, publish, monkeypatch):
    """The server promises more bytes than it sends."""
    archive = tmp_path / "cifar-100-python.tar.gz"
    archive.write_bytes(b"a" * 5000)
    send_header = Quiet.send_header

    def promise(self, key, value):
        send_header(self, key, "9000" if key == "Content-Length" else value)

    monkeypatch.setattr(Quiet, "send_header", promise)
    root = publish("cifar100", [archive])
    with pytest.raises(MissingData, match="no answer from"):
        fetch("cifar100", root)
    assert list(root.iterdir()) == []


def test_a_sha256_is_compared_and_progress_is_shown(tmp_path, publish, capfd):
    archive = tmp_path / "cifar-100-python.tar.gz"
    tar(archive, {"cifar-100-python/train": b"a", "cifar-100-python/test": b"b"})
    known = hashlib.sha256(archive.read_bytes()).hexdigest()
    root, lines = publish("cifar100", [archive], known=f"sha256:{known}", checksums={}), []
    assert fetch("cifar100", root, lines.append) == [root / "cifar-100-python"]
    assert [line.split()[0] for line in lines] == ["getting", "unpacking"]
    shown = capfd.readouterr().err
    assert "100%" in shown and "Downloading data from" not in shown


def test_every_published_hash_names_its_algorithm():
    for card in CARDS.values():
        for url, known in card.downloads:
            algorithm, _, digest = known.partition(":")
            assert len(digest) == {"md5": 32, "sha256": 64}[algorithm], (card.name, url)


@pytest.mark.parametrize("listening", [True, False])
def test_an_unreachable_server_is_an_error_with_instructions(
    tmp_path, publish, monkeypatch, listening
):
    file = tmp_path / "gone.tar.gz"
    file.write_bytes(b"")
    root = publish("cifar100", [file])
    file.unlink()
    if not listening:
        downloads = (("http://127.0.0.1:9/gone.tar.gz", "md5:" + "0" * 32),)
        monkeypatch.setitem(CARDS, "cifar100", replace(CARDS["cifar100"], downloads=downloads))
    with pytest.raises(MissingData, match=r"gone\.tar\.gz.*kriz/cifar") as error:
        fetch("cifar100", root)
    assert str(root / "cifar-100-python") in str(error.value)


@pytest.mark.parametrize("name", ["imagenet100", "imagenet-r", "imagenet-a", "pacs-photo"])
def test_what_cannot_be_fetched_says_where_it_goes(tmp_path, name):
    with pytest.raises(MissingData) as error:
        fetch(name, tmp_path)
    text = str(error.value)
    assert CARDS[name].origin in text and str(tmp_path / CARDS[name].folders[0]) in text


def test_digits_and_unknown_names(tmp_path):
    assert fetch("digits", tmp_path) == []
    with pytest.raises(UnknownName):
        fetch("digit", tmp_path)


@pytest.mark.parametrize(
    "members",
    [
        {"../out": b"x"},
        {"a/../../out": b"x"},
        {"/tmp/out-of-clgym": b"x"},
        {"link": (tarfile.SYMTYPE, "/etc")},
        {"link": (tarfile.LNKTYPE, "../out")},
        {"fifo": (tarfile.FIFOTYPE, "")},
    ],
    ids=["parent", "deep", "absolute", "symlink", "hardlink", "fifo"],
)
def test_tar_cannot_write_outside_its_folder(tmp_path, members):
    tar(tmp_path / "a.tar.gz", {"fine": b"", **members})
    with pytest.raises(BadSource, match=r"a\.tar\.gz"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "inside")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in (tmp_path / "inside").iterdir()] == ["fine"]


def test_zip_cannot_write_outside_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("d/", "")
        bundle.writestr("d/fine", "x")
        bundle.writestr("../out", "x")
    with pytest.raises(BadSource, match="leads out"):
        unpack(tmp_path / "a.zip", tmp_path / "inside")
    assert (tmp_path / "inside" / "d" / "fine").read_text() == "x"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cut", [0, 40, 15000])
def test_truncated_archive_is_named(tmp_path, cut):
    tar(tmp_path / "a.tar.gz", {"x": random.Random(0).randbytes(20000)})
    (tmp_path / "b.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:cut])
    with pytest.raises(BadSource, match=r"b\.tar\.gz"):
        unpack(tmp_path / "b.tar.gz", tmp_path / "inside")
