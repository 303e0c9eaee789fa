import pytest

from reward.datasets import load_dataset

HEADER = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align"
LINES = [
    "AttnGAN_normal_001.jpg,a tray of sushi,,,,1.36,0.6,0.42,0.6",
    'DALLE2_normal_002.jpg,"a king, realistic style",,,realistic style,0.9,0.7,4.25,0.8',
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data.csv").write_text("\r\n".join([HEADER, *LINES]) + "\r\n", newline="")
    return tmp_path


@pytest.mark.parametrize("place", [".", "images"])
def test_pictures_beside_the_file_or_in_images(folder, put_pictures, place):
    names = ("AttnGAN_normal_001.jpg", "DALLE2_normal_002.jpg")
    put_pictures(*(folder / place / name for name in names))
    dataset = load_dataset("agiqa-3k", folder)
    assert dataset.images == tuple(folder / place / name for name in names)
    assert dataset.prompts == ("a tray of sushi", "a king, realistic style")
    # alignment, not quality (1.36 and 0.9)
    assert dataset.scores.tolist() == [0.42, 4.25]


def test_a_missing_picture(folder, put_pictures):
    put_pictures(folder / "images" / "AttnGAN_normal_001.jpg")
    with pytest.raises(ValueError) as caught:
        load_dataset("agiqa-3k", folder)
    places = f"{folder / 'DALLE2_normal_002.jpg'} or {folder / 'images' / 'DALLE2_normal_002.jpg'}"
    assert f"{folder / 'data.csv'}, line 3: expected a picture at {places} but there is none" in str(caught.value)
    assert load_dataset("agiqa-3k", folder, skip_bad=True).scores.tolist() == [0.42]
    # pictures that are there are found, whether they are checked or not
    assert load_dataset("agiqa-3k", folder, check_images=False).images == (
        folder / "images" / "AttnGAN_normal_001.jpg",
        folder / "DALLE2_normal_002.jpg",
    )


def test_a_missing_column(folder):
    (folder / "data.csv").write_text(HEADER.replace("mos_align", "alignment") + "\n" + LINES[0])
    with pytest.raises(ValueError, match=r"data.csv, line 1: expected a column mos_align but there is name, prompt"):
        load_dataset("agiqa-3k", folder)
