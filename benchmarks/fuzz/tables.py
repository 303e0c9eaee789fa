"""Fuzz targets: score tables in CSV, TSV, JSON lines and Parquet; workbooks and MATLAB files of published data sets."""

import io
import zipfile
from pathlib import Path

_TEXTS = (
    'image,prompt,score\na.png,"a, ""red"" ring",0.5\nb.png,x,\n', "image\tprompt\tscore\na.png\tx\t1e3\n",
    '{"image": "a.png", "prompt": "x", "score": 1}\n{"image": "\\u0000", "prompt": "\\ud800", "score": 1e999}\n',
    "file_name,prompt,score\n../../etc/passwd,x,nan\n", '[[[[{"image": 1, "prompt": null, "score": [1]}]]]]\n',
    "\ufeffimage, prompt ,score\r\n\r\na.png,\"x\ny\",1_000\r\n", '{"image": ["a"], "prompt": {}, "score": true}\n',
)  # fmt: skip
_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


class Tables:
    """Input: the first byte selects the suffix, the rest is the file."""

    allowed = (ValueError,)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "a.png").write_bytes(b"not empty")

    def seeds(self) -> list[bytes]:
        """Small tables, ordinary and unusual."""
        import pyarrow
        from pyarrow import parquet

        found = [bytes([kind]) + text.encode() for text in _TEXTS for kind in range(3)]
        columns = {"image": ["a.png", None], "prompt": ["x", "\x00"], "score": [1.0, float("nan")]}
        for table in (pyarrow.table(columns), pyarrow.table(columns | {"score": [{"a": 1}, None], "image": [1, 2]})):
            for compression in ("none", "snappy", "zstd"):
                buffer = io.BytesIO()
                parquet.write_table(table, buffer, compression=compression)
                found.append(b"\x03" + buffer.getvalue())
        return found

    def run(self, data: bytes) -> None:
        """Read the file as scoring does (bad rows are skipped) and as training does (bad rows are an error)."""
        kind, content = (data[0], data[1:]) if data else (0, b"")
        path = self.folder / f"table{_SUFFIXES[kind % 4]}"
        path.write_bytes(content)
        _read_both(path, check_images=bool(kind & 8))


def _read_both(path: Path, check_images: bool) -> None:
    from reward.datasets import load_dataset
    from reward.scoring.inputs import find_rows
    from reward.scoring.score import split_rows

    failure = None
    try:
        dataset = load_dataset("table", path, skip_bad=True, check_images=check_images)
    except ValueError as error:
        failure = error
    else:
        for prompt in dataset.prompts:
            prompt.encode()
    rows = find_rows([path])
    for part in split_rows(rows, 4, ""):
        for row in part.rows:
            f"{row.path} {row.prompt}".encode("utf-8", "strict" if not row.problem else "surrogatepass")
    if failure:
        raise failure


class Workbooks:
    """Input: the first byte says which part of a workbook the rest is, or that it is a full file."""

    allowed = (ValueError, FileNotFoundError)

    def __init__(self, folder: Path) -> None:
        import openpyxl

        self.pku, self.aigc = folder / "pku", folder / "aigc"
        (self.aigc / "DATA" / "MOS").mkdir(parents=True)
        self.pku.mkdir()
        book = openpyxl.Workbook()
        for row in (["a", "b", "c", "d", "e", "f"], ["0.png", "a ring", "1.png", 1, 2, 3.5]):
            book.active.append(row)
        buffer = io.BytesIO()
        book.save(buffer)
        self.whole = buffer.getvalue()
        with zipfile.ZipFile(io.BytesIO(self.whole)) as file:
            self.parts = {info.filename: file.read(info) for info in file.infolist()}
        self.names = sorted(self.parts)
        (self.aigc / "AIGCIQA2023_Prompts.xlsx").write_bytes(self.whole)

    def seeds(self) -> list[bytes]:
        """Each part of an ordinary workbook, cells at very large rows and columns, MATLAB files."""
        import numpy as np
        import scipy.io

        found = [bytes([place]) + self.parts[name] for place, name in enumerate(self.names)]
        sheet = next(place for place, name in enumerate(self.names) if "sheet1" in name)
        far = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="{}">'
        far += '<c r="{}" t="n"><v>1</v></c></row></sheetData></worksheet>'
        for row, cell in ((1048576, "A1048576"), (10**9, "ZZZ1"), (-1, "A0"), (1, "XFD1")):
            found.append(bytes([sheet]) + far.format(row, cell).encode())
        found.append(b"\xfe" + self.whole)
        for compress in (False, True):
            buffer = io.BytesIO()
            scipy.io.savemat(buffer, {"MOSz": np.linspace(28, 72, 48)}, do_compression=compress)
            found.append(b"\xff" + buffer.getvalue())
        return found

    def run(self, data: bytes) -> None:
        """Put the file into the folder of a published data set, and read the folder."""
        from reward.datasets import load_dataset

        kind, content = (data[0], data[1:]) if data else (0, b"")
        if kind == 0xFF:
            (self.aigc / "DATA" / "MOS" / "mosz3.mat").write_bytes(content)
            load_dataset("aigciqa2023", self.aigc, check_images=False)
            return
        path = self.pku / "I2IQA_annotation.xlsx"
        if kind == 0xFE:
            path.write_bytes(content)
        else:
            with zipfile.ZipFile(path, "w") as file:
                for name, own in self.parts.items():
                    file.writestr(name, content if name == self.names[kind % len(self.names)] else own)
        load_dataset("pku-i2iqa", self.pku, check_images=False)
