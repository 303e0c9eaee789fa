"""Draw the README's picture from a run folder: the examples of its evaluation, base above, LoRA below, not selected.

python benchmarks/demo_gain/before_after.py runs/demo docs/images/before-after.png
"""

import json
import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from reward.files.writing import write_whole

COLUMNS, SIDE, GAP, LABEL = 6, 144, 12, 58


def main(run: Path, output: Path) -> None:
    """Draw the first examples of `run`'s evaluation.json and save them as `output`."""
    rows = json.loads((run / "evaluation.json").read_text())["examples"][:COLUMNS]
    left = 64
    sheet = Image.new("RGB", (left + COLUMNS * (SIDE + GAP), LABEL + 2 * (SIDE + 26) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for line, side in enumerate(("base", "lora")):
        top = LABEL + line * (SIDE + 26)
        draw.text((10, top + SIDE // 2 - 8), {"base": "base", "lora": "LoRA"}[side], "black", font)
        for column, row in enumerate(rows):
            x = left + column * (SIDE + GAP)
            picture = Image.open(run / row[side]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(picture, (x, top))
            draw.text((x, top + SIDE + 4), f"oracle {row[f'oracle_{side}']:.2f}", "black", font)
            if not line:
                draw.multiline_text((x, 6), "\n".join(textwrap.wrap(row["prompt"], 20)), "black", font, spacing=2)
    write_whole(output, lambda path: sheet.save(path, format="PNG", optimize=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
