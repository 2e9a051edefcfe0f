"""The named data sets, read from their original files as they are (.gz and .xz too)."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blankcheck.data.split import Split, hold_out
from blankcheck.data.splits import Data
from blankcheck.errors import DataError

DIGITS = tuple(str(d) for d in range(10))
CIFAR_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CIFAR = "airplane automobile bird cat deer dog frog horse ship truck"
FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"

# of the uncompressed files: the .gz files of MNIST differ between distributors
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
IDX_FILES = tuple(MNIST_MD5)
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_GZ_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"


def digits() -> Data:
    """The 8x8 digits that scikit-learn carries (1,797 images, values 0..16 scaled to [0, 1])."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images / 16.0, dtype=torch.float32).unsqueeze(1)
    rest, test = hold_out(Split(images, torch.tensor(bunch.target, dtype=torch.int64)), 0.2)
    train, validation = hold_out(rest, 0.125, salt=1)
    return Data("digits", DIGITS, train, validation, test)


def mnist(folders: list[Path]) -> Data:
    """MNIST (LeCun, Cortes, Burges): 60,000 and 10,000 images of 28x28."""
    return _idx_set("mnist", DIGITS, _idx_files(folders, "mnist", MNIST_URL, {}), MNIST_MD5)


def fashion_mnist(folders: list[Path]) -> Data:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 and 10,000 images of 28x28."""
    files = _idx_files(folders, "fashion-mnist", FASHION_URL, FASHION_GZ_MD5)
    return _idx_set("fashion-mnist", tuple(FASHION.split(",")), files, {})


def cifar10(folders: list[Path]) -> Data:
    """CIFAR-10 (Krizhevsky 2009), binary version: 50,000 and 10,000 images of 32x32 in colour."""
    found = _find(folders, "cifar-10-batches-bin", CIFAR_FILES)
    *train, test = [_read_cifar(path) for path in found or _fetch_cifar()]
    images, labels = torch.cat([s.loaded() for s in train]), torch.cat([s.labels for s in train])
    rest, validation = hold_out(Split(images, labels), 1 / 10)
    return Data("cifar10", tuple(CIFAR.split()), rest, validation, test)


def read_bytes(path: Path) -> bytes:
    """A file's contents, uncompressed by its ending."""
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            return gzip.decompress(raw)
        return lzma.decompress(raw) if path.suffix == ".xz" else raw
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"data file {path} cannot be read: {error}") from error


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes: magic 0x0801..0x0803, a length per axis, then the values."""
    raw = read_bytes(path)
    if len(raw) < 8 or raw[:3] != b"\x00\x00\x08" or not 1 <= raw[3] <= 3:
        raise DataError(f"data file {path} is not an IDX file of unsigned bytes")
    axes = raw[3]
    header = 4 + 4 * axes
    sizes = struct.unpack(f">{axes}I", raw[4:header]) if len(raw) >= header else ()
    left = len(raw) - header
    if not sizes or left != int(np.prod(sizes)):
        words = f"data file {path} is truncated: header says {sizes}, {left} bytes follow"
        raise DataError(words)
    return np.frombuffer(raw, np.uint8, offset=header).reshape(sizes)


def _read_cifar(path: Path) -> Split:
    raw = read_bytes(path)
    if not raw or len(raw) % 3073:
        words = f"data file {path} is truncated: {len(raw)} bytes are not whole records of 3073"
        raise DataError(words)
    rows = np.frombuffer(raw, np.uint8).reshape(-1, 3073)
    return _split(rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0])


def _split(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Split:
    images = torch.from_numpy(pixels.astype(np.float32)).div_(255)
    return Split(images, torch.tensor(labels, dtype=torch.int64))


def _idx_set(name: str, classes: tuple[str, ...], files: list[Path], md5: dict[str, str]) -> Data:
    for path in files:
        known = md5.get(path.name.removesuffix(".gz").removesuffix(".xz"))
        got = known and hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest()
        if got != known:
            differs = f"is not the published {name} file: MD5 of its contents differs"
            raise DataError(f"data file {path} {differs}")
    arrays = [read_idx(path) for path in files]
    splits = []
    for images, labels in (arrays[:2], arrays[2:]):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            shapes = f"images {images.shape} and labels {labels.shape}"
            raise DataError(f"data {name!r}: {shapes} do not belong together")
        splits.append(_split(images[:, None], labels))
    rest, validation = hold_out(splits[0], 1 / 12)
    return Data(name, classes, rest, validation, splits[1])


def _find(folders: list[Path], sub: str, names: tuple[str, ...]) -> list[Path] | None:
    """The files under the first folder that has them, in any compression; None: no folder has."""
    for folder in folders:
        for base in (folder / sub, folder):
            every = {n: [base / (n + end) for end in ("", ".gz", ".xz")] for n in names}
            found = {n: [p for p in paths if p.is_file()] for n, paths in every.items()}
            missing = [n for n, paths in found.items() if not paths]
            if not missing:
                return [paths[0] for paths in found.values()]
            if len(missing) < len(names):
                raise DataError(f"data folder {base} lacks {', '.join(missing)}")
    return None


def cache_folder() -> Path:
    """Where downloads and twins are kept: $BLANKCHECK_CACHE, else the system's cache folder."""
    import pooch

    return Path(os.environ.get("BLANKCHECK_CACHE") or pooch.os_cache("blankcheck"))


def _idx_files(folders: list[Path], sub: str, url: str, gz_md5: dict[str, str]) -> list[Path]:
    found = _find(folders, sub, IDX_FILES)
    if found is not None:
        return found
    known = {n: f"md5:{gz_md5[n]}" if n in gz_md5 else None for n in IDX_FILES}
    return [_fetch(f"{url}{n}.gz", sub, known[n]) for n in IDX_FILES]


def _fetch(url: str, sub: str, known_hash: str | None, unpack: object = None) -> Path:
    """Where a file is kept that was downloaded, now or earlier; unpack: what pooch does to it."""
    import pooch

    name, folder = url.rsplit("/", 1)[1], cache_folder() / sub
    try:
        pooch.retrieve(url, known_hash, name, folder, processor=unpack, progressbar=True)
    except Exception as error:  # pooch lets every error of its downloader through
        words = "is not under --data-dir or $BLANKCHECK_DATA and cannot be downloaded"
        raise DataError(f"data {sub!r} {words}: {type(error).__name__}") from error
    return folder / name


def _fetch_cifar() -> list[Path]:
    import pooch

    names = [f"cifar-10-batches-bin/{name}" for name in CIFAR_FILES]
    unpack = pooch.Untar(members=names, extract_dir=".")
    archive = _fetch(CIFAR_URL, "cifar10", f"md5:{CIFAR_MD5}", unpack)
    return [archive.parent / name for name in names]
