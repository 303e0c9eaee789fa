"""What all HTML pages share: the template environment, the base template, the style sheet, charts and pictures.

To add a page, put `templates/NAME.html` and a `page.py` into the room whose results it shows: the template extends
`reward/pages/templates/base.html`, `page.py` collects the values and calls `reward.pages.rendering.render`.
"""
