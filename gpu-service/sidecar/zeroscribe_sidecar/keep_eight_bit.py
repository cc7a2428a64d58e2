"""Keeps a Whisper model beside itself as 8-bit compute types have it, so that no start has to turn it into that.

CTranslate2 turns stored weights into the compute type at each load: of tiny.en that is most of the time, of larger
models seconds. Its Python package can store what it converts from other formats, not what it has loaded, so the format
of model.bin (binary version 6, as written by ctranslate2.specs.model_spec) is read and written here.

Its argument: the folder of the model. Set-up runs it (`python -m zeroscribe_sidecar.keep_eight_bit`) on machines that
compute in 8 bits, one at a time.
"""

import mmap
import os
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .weights_folder import eight_bit_folder

_BINARY_VERSION = 6
_TYPES = ("float32", "int8", "int16", "int32", "float16")
_FLOATS = ("float32", "float16")


class Variable(NamedTuple):
    """An array of numbers in a model, and its name."""

    name: str
    value: NDArray[np.generic]


def keep_eight_bit(folder: Path) -> None:
    """Makes it, unless it is there. A crash, also of the machine, leaves it whole, or not there."""
    kept = eight_bit_folder(folder)
    # Of a model.bin that was here before, or begun and never finished.
    for other in folder.glob("int8-of-*"):
        if other != kept:
            shutil.rmtree(other)
    if kept.is_dir():
        return
    partial = kept.with_name(f"{kept.name}.partial")
    partial.mkdir()
    try:
        for path in folder.iterdir():
            if path.name == "config.json" or path.name.startswith("vocabulary."):
                shutil.copyfile(path, partial / path.name)
        with (folder / "model.bin").open("rb") as source, (partial / "model.bin").open("wb") as out:
            _convert(source, out)
        for path in partial.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        partial.rename(kept)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _convert(source: BinaryIO, out: BinaryIO) -> None:
    with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        reader = _Reader(mapped)
        version = reader.number("I")
        if version != _BINARY_VERSION:
            raise ValueError(f"model.bin has the binary version {version}, not {_BINARY_VERSION}.")
        name, revision, count = reader.text(), reader.number("I"), reader.number("I")
        variables = [converted for _ in range(count) for converted in _in_eight_bit(reader.variable())]
        scaled = {variable.name for variable in variables}
        aliases = [(reader.text(), reader.text()) for _ in range(reader.number("I"))]
        # A weight that goes by two names is scaled under both.
        aliases += [(f"{a}_scale", f"{b}_scale") for a, b in aliases if f"{b}_scale" in scaled]
        out.write(struct.pack("I", version) + _text(name) + struct.pack("II", revision, len(variables)))
        for variable in variables:
            _write(out, variable)
        out.write(struct.pack("I", len(aliases)))
        for alias, original in aliases:
            out.write(_text(alias) + _text(original))


def _in_eight_bit(variable: Variable) -> Iterator[Variable]:
    """By the arithmetic with which CTranslate2 quantizes: per row, scaled so that the greatest becomes 127."""
    name, value = variable
    if value.dtype.name not in _FLOATS or value.ndim == 0:
        yield variable
        return
    floats = value.astype(np.float32)
    # Convolutions are not quantized at load either.
    if not name.endswith("weight") or value.ndim != 2:
        yield Variable(name, floats)
        return
    greatest = np.abs(floats).max(axis=1)
    greatest[greatest == 0] = 127
    scale = np.float32(127) / greatest
    yield Variable(name, np.rint(floats * scale[:, np.newaxis]).astype(np.int8))
    yield Variable(f"{name}_scale", scale)


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def number(self, kind: str) -> int:
        (found,) = struct.unpack_from(kind, self._data, self._at)
        self._at += struct.calcsize(kind)
        return int(found)

    def text(self) -> str:
        length = self.number("H")
        found = self._data[self._at : self._at + length - 1].decode()
        self._at += length
        return found

    def variable(self) -> Variable:
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        kind = self.number("B")
        if kind >= len(_TYPES):
            raise ValueError(
                f"model.bin has numbers of the type {kind}, and only those of {', '.join(_TYPES)} are known."
            )
        dtype = np.dtype(_TYPES[kind])
        size = self.number("I")
        value = np.frombuffer(self._data[self._at : self._at + size], dtype).reshape(shape)
        self._at += size
        return Variable(name, value)


def _write(out: BinaryIO, variable: Variable) -> None:
    name, value = variable
    out.write(_text(name) + struct.pack("B", value.ndim) + struct.pack(f"{value.ndim}I", *value.shape))
    out.write(struct.pack("B", _TYPES.index(value.dtype.name)))
    out.write(struct.pack("I", value.nbytes) + value.tobytes())


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("H", len(encoded) + 1) + encoded + b"\0"


if __name__ == "__main__":
    keep_eight_bit(Path(sys.argv[1]))
