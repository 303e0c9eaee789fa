from benchmarks.agiqa3k.tables import rows_table, sweeps_table


def row(name, srcc, control=False):
    others = dict.fromkeys(("krcc", "plcc", "plcc_logistic", "pairwise_accuracy", "within_prompt_srcc"), 0.5)
    about = {"name": name, "control": control, "srcc": srcc, "srcc_std": 0.01}
    return about | {"srcc_ci": [srcc - 0.1, srcc + 0.1]} | others


def gap(name, versus, by):
    return {"row": name, "versus": versus, "srcc": by, "srcc_ci": [by - 0.01, by + 0.02]}


FOUND = {
    "rows": [row("a", 0.4), row("+ b", 0.45), row("c", 0.48), row("full", 0.5), row("blind", 0.2, control=True)],
    "gaps": [
        gap("+ b", "a", 0.05), gap("c", "+ b", 0.03),
        gap("full", "a", 0.1), gap("full", "+ b", 0.05), gap("full", "c", 0.02), gap("full", "blind", 0.3),
    ],
}  # fmt: skip


def test_rows_have_the_step_over_the_row_before_and_the_full_models_gap():
    lines = rows_table(FOUND).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[0] for line in cells] == ["a", "+ b", "c", "full", "*blind*"]
    assert cells[1][1:4] == [
        "0.450 ± 0.010 [0.350, 0.550]", "+0.0500 [+0.0400, +0.0700]", "+0.0500 [+0.0400, +0.0700]",
    ]  # fmt: skip
    assert cells[0][2] == cells[2][2] == "", "c is no step of the ablation"
    assert cells[2][3] == "+0.0200 [+0.0100, +0.0400]" and cells[3][2:4] == ["", ""]
    assert cells[4][3] == "+0.3000 [+0.2900, +0.3200]"


def test_a_sweep_is_told_from_the_settings_side_and_without_controls():
    lines = sweeps_table(FOUND).splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["a", "+ b", "c", "full"]
    assert "| 0.4000 | -0.1000 [-0.1200, -0.0900] |" in lines[0]
    assert "| 0.5000 |  |" in lines[3]
