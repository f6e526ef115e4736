"""Public data of the examples, from where their authors keep them.

`python -m examples.download clinc150 banking77 --to data`.

Every file is checked by its SHA-256 before it is written. CLINC150 is CC BY 3.0 (Larson et al. 2019), BANKING77 is
CC BY 4.0 (Casanueva et al. 2020), the splits are Apache-2.0 (Dopierre et al. 2021). READMEs tell of the others.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path

RAW = "https://raw.githubusercontent.com"
CLINC = f"{RAW}/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data"
BANKING = f"{RAW}/PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b/banking_data"
SPLITS = f"{RAW}/tdopierre/ProtAugment/6352ababa740133708daed815666b5bf39850d98/data"
FILES = {  # name: address, SHA-256
    "clinc150/data_full.json": (
        f"{CLINC}/data_full.json",
        "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
    ),
    "banking77/train.csv": (
        f"{BANKING}/train.csv",
        "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
    ),
    "banking77/test.csv": (f"{BANKING}/test.csv", "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d"),
}
FOLDS = {  # of all fifteen lists, a name a line
    "clinc150": ("OOS", "f8a5237d77eb5212d71c03c8b3a1d314492e3f78489894da1653a52a852f060a"),
    "banking77": ("BANKING77", "578bf3932ea35633b1d041e5fe506ec05cd2d046cf72372ab634568bf10e1ffb"),
}
Get = Callable[[str], bytes]


def get(address: str) -> bytes:
    """The bytes at an address."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        data: bytes = answer.read()
        return data


def checked(data: bytes, expected: str, name: str) -> bytes:
    """`data` where its SHA-256 is the expected one."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ValueError(f"{name} has SHA-256 {found} but must have {expected}. Download it anew, or from elsewhere.")
    return data


def download(name: str, folder: Path, get: Get = get) -> None:
    """The files of one data set, in a folder of its name."""
    for file, (address, expected) in FILES.items():
        if file.startswith(f"{name}/"):
            data = checked(get(address), expected, file)
            packed = file.endswith(".json")
            path = folder / (f"{file}.gz" if packed else file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    place, expected = FOLDS[name]
    names = [(fold, part) for fold in range(1, 6) for part in ("train", "valid", "test")]
    addresses = [f"{SPLITS}/{place}/few_shot/{fold:02}/labels.{part}.txt" for fold, part in names]
    lists = ["\n".join(get(address).decode().split()) + "\n" for address in addresses]
    checked("".join(lists).encode(), expected, f"{name}'s splits")
    (folder / name / "few_shot_splits").mkdir(exist_ok=True)
    for (fold, part), text in zip(names, lists, strict=True):
        (folder / name / "few_shot_splits" / f"fold{fold}.{part}.txt").write_text(text, "utf-8")


def main() -> None:
    """Download what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=FOLDS)
    parser.add_argument("--to", type=Path, default=Path("data"))
    options = parser.parse_args()
    for name in options.names:
        download(name, options.to)
        print(f"{name} is in {options.to / name}")


if __name__ == "__main__":
    main()
