import html.parser
import math

import numpy as np

from reward.evaluation.page import page_html
from reward.evaluation.result import Evaluation
from reward.pages.scatter_chart import MOST_POINTS


class Page(html.parser.HTMLParser):
    """Tables as lists of rows of texts, and the text of everything."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.text, self.dots, self.in_cell = [], "", 0, False
        self.feed(text)
        self.tables = [[[" ".join(cell.split()) for cell in row] for row in table] for table in self.tables]

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True
        self.dots += tag == "circle"

    def handle_endtag(self, tag):
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.tables[-1][-1][-1] += data


def test_the_page_shows_the_tables_the_dots_and_the_notes(found):
    page = Page(page_html(found))
    rows, gaps = page.tables
    assert [row[0] for row in rows] == ["row", "full | x", "blind control", "flat"]
    assert rows[0][1:] == ["SRCC", "KRCC", "PLCC", "PLCC logistic", "pairs in order", "SRCC in a prompt"]
    row = found.rows[0]
    means = [f"{value:.3f}" for value in row.means.values()]
    first = f"{means[0]} ± {row.srcc_std:.3f} [{row.srcc_low:.3f}, {row.srcc_high:.3f}]"
    assert rows[1][1:] == [first, *means[1:]]
    assert rows[2][1].startswith("−1.000 ± 0.000 [−1.000, ") and set(rows[3][1:3]) == {"– [–, –]", "–"}
    gap = found.gaps[0]
    assert gaps[1] == ["full | x", "blind", f"+{gap.srcc:.3f}", f"[+{gap.low:.3f}, +{gap.high:.3f}]"]
    assert "a note" in page.text and "test pairs 80" in page.text and "splits 2" in page.text
    # a chart for each row that is no control
    assert page.dots == 2 * 80 and page.text.count("human score; SRCC") == 2


def test_it_is_said_that_dots_are_left_out(found):
    assert "Drawn" not in page_html(found)
    result = Evaluation("p", "a", "a")
    count = 2 * MOST_POINTS + 1
    values = np.arange(float(count))
    result.add(0, [f"p{i % 3}" for i in range(count)], values, {"row": values})
    page = Page(page_html(result.summarise([], samples=3)))
    assert "Drawn: one of 3 pairs" in page.text and page.dots == math.ceil(count / 3)


def test_a_row_without_a_finite_prediction_has_no_chart(found):
    found.predictions["flat"] = np.full(80, np.nan)
    assert Page(page_html(found)).dots == 80
