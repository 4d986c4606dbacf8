"""When did it emerge?

What lives here: `detect_onset`, and how onsets of several curves lie to one another (`relations`).
What does not: what an onset is (`curves.families.ONSET`) and the posteriors of single curves
(`comparison.summaries`).
"""
