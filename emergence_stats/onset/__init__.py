"""When did it emerge?

What lives here: `detect_onset`, and how onsets of several curves lie to one another. What does not:
the posteriors it stands on (`comparison.summaries`).
"""
