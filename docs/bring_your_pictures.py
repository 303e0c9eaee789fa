"""The files of docs/bring-your-pictures.md: one folder of pictures as everything that people bring.

python -m tinyworld.rated_pictures pictures --count 6
python docs/bring_your_pictures.py
"""

from pathlib import Path

import datasets
import pandas
import webdataset


def write_all(folder: Path, to: Path) -> None:
    """excel.csv, names.txt, photos.jsonl, photos.parquet, saved/ and shard-000.tar ... in `to`, of an imagefolder."""
    table = pandas.read_csv(folder / "metadata.csv")
    names, prompts = list(table["file_name"]), list(table["prompt"])
    contents = [(folder / name).read_bytes() for name in names]

    windows = table.rename(columns={"file_name": "img_path", "score": "mos"})
    windows["img_path"] = [f"{folder.name}\\{name}" for name in names]
    windows.to_csv(
        to / "excel.csv", sep=";", decimal=",", encoding="utf-8-sig", lineterminator="\r\n", index=False
    )
    (to / "names.txt").write_text("".join(f"{folder.name}/{name}\n" for name in names), encoding="utf-8")
    lines = pandas.DataFrame({"image": [f"{folder.name}/{name}" for name in names], "prompt": prompts})
    lines.to_json(to / "photos.jsonl", orient="records", lines=True)

    cells = [{"bytes": content, "path": name} for content, name in zip(contents, names, strict=True)]
    data = datasets.Dataset.from_dict({"image": cells, "text": prompts}).cast_column("image", datasets.Image())
    data.to_parquet(to / "photos.parquet")
    data.save_to_disk(to / "saved")

    with webdataset.ShardWriter(str(to / "shard-%03d.tar"), maxcount=3, verbose=0) as writer:
        for number, (content, prompt) in enumerate(zip(contents, prompts, strict=True)):
            writer.write({"__key__": f"{number:06d}", "png": content, "txt": prompt})


if __name__ == "__main__":
    write_all(Path("pictures"), Path())
