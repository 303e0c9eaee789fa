from benchmarks.direct.memory import DEPTHS, STEPS, table


def test_a_line_a_depth_and_a_column_a_number_of_steps():
    rows = [
        {"steps": str(steps), "depth": str(depth), "checkpointing": flag, "above_ready_mb": f"{steps + depth}.4"}
        for steps in STEPS for depth in DEPTHS for flag in "01" if (steps, flag) != (40, "1")
    ]  # fmt: skip
    assert table(rows).splitlines()[3] == "| K = 2 | 12 | 22 | 42 | 12 | 22 |  |"
