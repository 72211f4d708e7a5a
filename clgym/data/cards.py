"""Cards of the known datasets: names, contents, licences, checksums and fingerprints.

A card is data. `clgym.data.sources` compares files on disk with it; data that differ from the card
never get its name.
"""

from pathlib import Path

from clgym import registry
from clgym._moved import report_renamed
from clgym.data.dataset_info import DatasetInfo

__all__ = ["CARDS", "DatasetInfo"]

report_renamed(__name__)


def _ids(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}/{name}" for name in names.split())


_DIGITS = "0 1 2 3 4 5 6 7 8 9"
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
_FASHION = "t-shirt-top trouser pullover dress coat sandal shirt sneaker bag ankle-boot"
_PACS = "dog elephant giraffe guitar horse house person"
_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET_TERMS = "ImageNet terms of access: non-commercial research and education"


def _idx(
    name: str, title: str, folder: str, url: str, md5s: tuple[str, ...], **facts: object
) -> DatasetInfo:
    """A set in the MNIST family: four gzipped idx files, 60,000 + 10,000 images of 28 x 28."""
    return DatasetInfo(
        name,
        title,
        "idx",
        (f"{folder}/raw",),
        10,
        60000,
        10000,
        checksums=dict(zip(_IDX, md5s, strict=True)),
        downloads=tuple((url + file, f"md5:{md5}") for file, md5 in zip(_IDX, md5s, strict=True)),
        **facts,  # type: ignore[arg-type]
    )


def _aper(name: str, title: str, classes: int, train: int, test: int, licence: str) -> DatasetInfo:
    """A fixed split of ADAM/APER and MOS: train/ and test/; both crop 224 of 256 pixels."""
    origin = (
        "https://github.com/zhoudw-zdw/RevisitingCIL (links to folders; no checksums published)"
    )
    title, place = f"{title}, the split of ADAM/APER and MOS", (f"{name}-aper",)
    return DatasetInfo(
        place[0], title, "folder", place, classes, train, test, licence, origin, side=256
    )


def _core50(session: int) -> DatasetInfo:
    """One training session of CORe50; test/ holds the images of the sessions 3, 7 and 10."""
    name, title = f"core50-s{session}", f"CORe50, session {session}, tested on sessions 3, 7 and 10"
    origin = "https://vlomonaco.github.io/core50 (core50_128x128.zip; no checksum published)"
    facts = ("folder", (f"core50/s{session}",), 50, None, None, "CC BY 4.0", origin)
    return DatasetInfo(name, title, *facts, prefix="core50", side=256)


def _pacs(domain: str, total: int) -> DatasetInfo:
    """One domain of PACS: one folder per class, no official test split for continual learning."""
    return DatasetInfo(
        f"pacs-{domain.replace('_', '-')}",
        f"PACS, domain {domain}",
        "folder",
        (f"pacs/{domain}", f"PACS/{domain}"),
        7,
        total,
        0,
        "not stated; research use",
        "https://dali-dl.github.io/project_iccv2017.html",
        classes=_ids("pacs", _PACS),
        side=224,
        by_hash=True,
    )


def _domainnet(domain: str, total: int) -> DatasetInfo:
    """One domain of DomainNet-126: those 126 of 345 classes that the lists of SSDA_MME name."""
    origin = "http://ai.bu.edu/M3SDA, lists: https://github.com/VisionLearningGroup/SSDA_MME"
    name, terms = f"domainnet126-{domain}", "fair use notice of its authors; research"
    facts = ("folder", (f"domainnet-126/{domain}",), 126, total, 0, terms, origin)
    title, prefix = f"DomainNet-126, domain {domain}", "domainnet"
    return DatasetInfo(name, title, *facts, prefix=prefix, side=224, by_hash=True)


_ALL = (
    DatasetInfo(
        "digits",
        "Optical recognition of handwritten digits (the copy in scikit-learn), 8 x 8",
        "digits",
        (),
        10,
        1437,
        360,
        "CC BY 4.0",
        "https://archive.ics.uci.edu/dataset/80",
        classes=_ids("digits", _DIGITS),
        max_value=16,
        mean=(0.3054,),
        std=(0.3761,),
        fingerprints={
            "train": "26c98e175201858fcc0c70b4079be25e481e19d4822470d24e9fab452cdcb0f2",
            "test": "9ae6618af0f1429ba53a3253818db9ae7e3f9bbd1000cba46e01a2f7a9a22a96",
        },
    ),
    _idx(
        "mnist",
        "MNIST handwritten digits, 28 x 28",
        "MNIST",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        licence="CC BY-SA 3.0",
        origin="http://yann.lecun.com/exdb/mnist/",
        classes=_ids("mnist", _DIGITS),
        mean=(0.1307,),
        std=(0.3081,),
        fingerprints={
            "train": "e6310d03d6cb5a4f06d720364b2e9a8c1c351f321c2294246edb607906fc62a2",
            "test": "af4b63e6962bac9e6829bc70cb2e8956459f3a66b2026e82d3683f89fcf17cd7",
        },
    ),
    _idx(
        "fashion-mnist",
        "Fashion-MNIST articles of clothing, 28 x 28",
        "FashionMNIST",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        licence="MIT",
        origin="https://github.com/zalandoresearch/fashion-mnist",
        classes=_ids("fashion-mnist", _FASHION),
        mean=(0.2860,),
        std=(0.3530,),
    ),
    _idx(
        "kmnist",
        "Kuzushiji-MNIST cursive Japanese characters, 28 x 28",
        "KMNIST",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        (
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        licence="CC BY-SA 4.0",
        origin="http://codh.rois.ac.jp/kmnist/",
        classes=_ids("kmnist", "o ki su tsu na ha ma ya re wo"),
        mean=(0.1918,),
        std=(0.3483,),
    ),
    DatasetInfo(
        "svhn",
        "Street View House Numbers, cropped digits, 32 x 32",
        "svhn",
        ("svhn", "SVHN", "."),
        10,
        73257,
        26032,
        "non-commercial use only",
        "http://ufldl.stanford.edu/housenumbers/",
        classes=_ids("svhn", _DIGITS),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        checksums={
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
        downloads=(
            (
                "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
                "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
            ),
            (
                "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
                "md5:eb5a983be6a315427106f1b164d9cef3",
            ),
        ),
    ),
    DatasetInfo(
        "cifar10",
        "CIFAR-10, 32 x 32",
        "cifar",
        ("cifar-10-batches-py",),
        10,
        50000,
        10000,
        "not stated; research use",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        classes=_ids("cifar10", _CIFAR10),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        fingerprints={
            "test": "5051cc47b672885d4623a467b8549c2ebc8899e200ba5a02bfb539ba701cabd4",
        },
        checksums={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
        downloads=(
            (
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "md5:c58f30108f718f92721af3b95e74349a",
            ),
        ),
        archived=True,
    ),
    DatasetInfo(
        "cifar100",
        "CIFAR-100, fine labels, 32 x 32",
        "cifar",
        ("cifar-100-python",),
        100,
        50000,
        10000,
        "not stated; research use",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        classes=_ids("cifar100", _CIFAR100),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        fingerprints={
            "train": "88b68107a5e773b9fb5436d0a04d460734ed6ed88e38c6e1911ad159866c6bef",
            "test": "f88eda70b02788d96c42d25805e4b963871fd3c0b27c901187b70c48d7153c24",
        },
        checksums={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        },
        downloads=(
            (
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "md5:eb9058c3a382ffc7106e4002c42a8d85",
            ),
        ),
        archived=True,
    ),
    DatasetInfo(
        "tiny-imagenet",
        "Tiny ImageNet, 200 classes, 64 x 64; the labelled validation images are the test split",
        "tiny-imagenet",
        ("tiny-imagenet-200", "tiny-imagenet"),
        200,
        100000,
        10000,
        _IMAGENET_TERMS,
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        prefix="imagenet",
        side=64,
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2770, 0.2691, 0.2821),
        downloads=(
            (
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                "md5:90528d7ca1a48142e341f4ef8d21d0de",
            ),
        ),
        archived=True,
    ),
    DatasetInfo(
        "imagenet-r",
        "ImageNet-R (renditions), 200 classes, in the 24,000 + 6,000 split of continual learning",
        "folder",
        ("imagenet-r",),
        200,
        24000,
        6000,
        _IMAGENET_TERMS,
        "https://github.com/hendrycks/imagenet-r",
        prefix="imagenet",
        side=256,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    DatasetInfo(
        "imagenet-a",
        "ImageNet-A (natural adversarial), 200 classes, in the 5,981 + 1,519 split of continual "
        "learning",
        "folder",
        ("imagenet-a",),
        200,
        5981,
        1519,
        _IMAGENET_TERMS,
        "https://github.com/hendrycks/natural-adv-examples",
        prefix="imagenet",
        side=256,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    DatasetInfo(
        "cub200",
        "Caltech-UCSD Birds 200-2011, official split",
        "cub200",
        ("CUB_200_2011", "cub200"),
        200,
        5994,
        5794,
        "non-commercial research and education",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        prefix="cub200",
        side=224,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        downloads=(
            (
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                "md5:97eceeb196236b17998738112f37df78",
            ),
        ),
        archived=True,
    ),
    DatasetInfo(
        "imagenet100",
        "100 classes of ImageNet-1k, a folder a WordNet id",
        "folder",
        ("imagenet100",),
        100,
        None,
        5000,
        _IMAGENET_TERMS,
        "https://image-net.org/download-images.php",
        prefix="imagenet",
        side=224,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    _pacs("photo", 1670),
    _pacs("art_painting", 2048),
    _pacs("cartoon", 2344),
    _pacs("sketch", 3929),
    _domainnet("real", 69622),
    _domainnet("clipart", 18523),
    _domainnet("painting", 30042),
    _domainnet("sketch", 24147),
    _aper("cub200", "Caltech-UCSD Birds 200-2011", 200, 9430, 2358, "non-commercial research"),
    _aper("objectnet", "ObjectNet, 200 of its classes", 200, 26509, 6628, "research, no training"),
    _aper("omnibenchmark", "OmniBenchmark, 300 classes", 300, 89697, 5985, "research"),
    _aper("vtab", "VTAB, five domains of 10 classes, in order", 50, 1796, 8619, "of each part"),
    *(_core50(session) for session in (1, 2, 4, 5, 6, 8, 9, 11)),
)

CARDS: dict[str, DatasetInfo] = {card.name: card for card in _ALL}
registry.reserve("sources", CARDS, Path(__file__), __name__)
