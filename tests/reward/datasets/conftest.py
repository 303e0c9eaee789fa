"""Small made-up annotation files in the formats of the published ones."""

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def picture(tmp_path_factory):
    """One small picture, to be linked under many names."""
    path = tmp_path_factory.mktemp("picture") / "grey.png"
    Image.new("RGB", (4, 4), (90, 90, 90)).save(path)
    return path


@pytest.fixture
def put_pictures(picture):
    """Put a picture under each of the given paths."""

    def put(*paths):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture.read_bytes())

    return put


@pytest.fixture
def write_workbook():
    """Write rows into an .xlsx."""

    def write(path, rows):
        import openpyxl

        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        book.save(path)
        return path

    return write
