"""Has it emerged yet? Asked while training runs.

What lives here: the filter that takes one point after another, `detect_online`, `Monitor`. What
does not: the onset of a finished curve (`onset`).
"""
