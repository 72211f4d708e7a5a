"""Cards: complete, consistent, and in agreement with torchvision where it knows the same."""

import pytest

from clgym.data.cards import CARDS
from clgym.data.sources import find_card, load_source
from clgym.errors import UnknownName

NAMES = (
    "digits mnist fashion-mnist kmnist svhn cifar10 cifar100 tiny-imagenet imagenet-r imagenet-a "
    "cub200 imagenet100 pacs-photo pacs-art-painting pacs-cartoon pacs-sketch "
    "cub200-aper objectnet-aper omnibenchmark-aper vtab-aper core50-s1 core50-s2 core50-s4 "
    "core50-s5 core50-s6 core50-s8 core50-s9 core50-s11 "
    "domainnet126-clipart domainnet126-painting domainnet126-real domainnet126-sketch"
)


def test_every_source_that_was_asked_for_has_a_card():
    assert set(NAMES.split()) == set(CARDS)


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_card_is_consistent(card):
    assert card.licence and card.origin.startswith("http") and card.title
    assert len(card.mean) == len(card.std)
    if card.classes:
        assert len(set(card.classes)) == card.class_count
        assert all(name.count("/") == 1 for name in card.classes)
    for digest in [*card.fingerprints.values()]:
        assert len(bytes.fromhex(digest)) == 32
    for md5 in card.checksums.values():
        assert len(bytes.fromhex(md5)) == 16


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist"])
def test_checksums_of_the_mnist_family_are_torchvisions(name):
    from torchvision import datasets

    theirs = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}[name]
    peer = getattr(datasets, theirs)
    assert CARDS[name].checksums == dict(peer.resources)
    assert CARDS[name].downloads[0][0].removesuffix(peer.resources[0][0]) in peer.mirrors


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_checksums_of_cifar_are_torchvisions(name):
    from torchvision import datasets

    peer = getattr(datasets, name.upper())
    assert CARDS[name].checksums == dict(peer.train_list + peer.test_list)
    assert CARDS[name].downloads == ((peer.url, f"md5:{peer.tgz_md5}"),)
    assert CARDS[name].folders == (peer.base_folder,)


def test_checksums_of_svhn_are_torchvisions():
    from torchvision.datasets import SVHN

    theirs = [SVHN.split_list[split] for split in ("train", "test")]
    assert CARDS["svhn"].downloads == tuple((url, f"md5:{md5}") for url, _, md5 in theirs)
    assert CARDS["svhn"].checksums == {file: md5 for _, file, md5 in theirs}


def test_unknown_name_shows_near_matches():
    with pytest.raises(UnknownName, match="'cifar100'"):
        load_source("cifar1000")
    assert find_card("tiny_imagenet").name == "tiny-imagenet"
