"""The report page's style sheet: follows the reader's light or dark setting, prints, fits a phone."""

STYLE = """
:root { --page: #fbfbfa; --card: #fff; --text: #1c1f23; --soft: #646b73; --rule: #dfe2e6;
        --one: #2f6fde; --two: #d9603b; --good: #1a7f4b; --bad: #c0392b; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15181c; --card: #1d2126; --text: #e8eaed; --soft: #9aa2ab; --rule: #343a41;
          --one: #77a7ff; --two: #f2906f; --good: #5cc98d; --bad: #f0857a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { margin: 0 0 4px; font-size: 26px; }
h2 { margin: 34px 0 4px; font-size: 18px; }
code, pre { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px; overflow-x: auto; }
small, .note, .seed, .facts, figcaption, footer { color: var(--soft); }
.note { margin: 4px 0 12px; font-size: 14px; }
.facts { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 0; padding: 0; list-style: none; font-size: 13px; }
.facts code { color: var(--text); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 14px; margin: 22px 0 6px; }
.card, .example, .chart { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.card { padding: 14px 18px; }
.card h2 { margin: 0; font-size: 14px; font-weight: 500; color: var(--soft); }
.card p { margin: 0; }
.big { font-size: 32px; font-variant-numeric: tabular-nums; }
.arrow { color: var(--soft); }
.gain { font-size: 17px; font-weight: 600; }
.gain small { font-weight: 400; font-size: 13px; }
.gain.better { color: var(--good); }
.gain.worse { color: var(--bad); }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(258px, 1fr)); gap: 14px; }
.example { padding: 10px 12px 8px; border-top: 3px solid var(--rule); display: flex; flex-direction: column; }
.example.better { border-top-color: var(--good); }
.example.worse { border-top-color: var(--bad); }
.example p { margin: 0 0 8px; line-height: 1.35; overflow-wrap: anywhere; flex: 1; }
.seed { font-size: 12px; white-space: nowrap; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; }
figure { margin: 0; }
figcaption { font-size: 12px; line-height: 1.4; padding-top: 3px; font-variant-numeric: tabular-nums; }
.pair img { width: 100%; display: block; border-radius: 4px; image-rendering: pixelated; }
.missing { aspect-ratio: 1; display: grid; place-items: center; border: 1px dashed var(--rule); color: var(--soft); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 14px; }
.charts + .table, .charts + details, .examples + details { margin-top: 14px; }
.chart { width: 100%; max-width: 620px; height: auto; }
.chart text { fill: var(--soft); font: 11.5px system-ui, sans-serif; }
.chart .chart-title { fill: var(--text); font-size: 13px; font-weight: 600; }
.chart .grid { stroke: var(--rule); }
.chart .axis { stroke: var(--soft); }
.chart .line0 { --line: var(--one); }
.chart .line1 { --line: var(--two); }
.chart .curve { fill: none; stroke: var(--line); stroke-width: 2.2; stroke-linejoin: round; }
.chart .raw { fill: none; stroke: var(--line); stroke-width: 1; opacity: .35; }
.chart .band { fill: var(--line); opacity: .14; }
.chart circle { fill: var(--line); }
.chart line.marker { stroke: var(--bad); stroke-width: 1.4; stroke-dasharray: 4 3; }
.chart text.marker { fill: var(--bad); }
.multiples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 14px; }
.alarm { margin: 18px 0 0; padding: 12px 18px; background: var(--card); border: 1px solid var(--bad);
         border-left-width: 6px; border-radius: 10px; }
.alarm h2 { margin: 0 0 4px; color: var(--bad); }
.alarm p { margin: 4px 0; }
.alarm ul { margin: 4px 0; padding-left: 20px; font-variant-numeric: tabular-nums; }
.alarm a { color: var(--one); }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 14px; border-bottom: 1px solid var(--rule); }
th:first-child { text-align: left; }
tbody th { font-weight: 500; }
tr.chosen { font-weight: 600; }
details > summary { cursor: pointer; color: var(--one); padding: 6px 0; }
.grids { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 14px; }
.grids img { max-width: 100%; border-radius: 6px; }
footer { margin-top: 34px; border-top: 1px solid var(--rule); font-size: 13px; }
"""
